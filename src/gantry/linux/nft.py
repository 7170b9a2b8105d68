"""nftables by its own program: `nft -f -` carries out a whole script as one transaction, or nothing of it."""

import asyncio
import asyncio.subprocess
import json
import os
import shutil
import signal
from typing import Any

from gantry.errors import Internal, Unavailable

_TIMEOUT = 30  # seconds; a transaction takes milliseconds


class NftError(Internal):
    """nft refused a script; nothing of it was applied."""


async def apply(script: str) -> None:
    """Run one script as one transaction; raises NftError with nft's first complaint."""
    await _run(["-f", "-"], script)


async def list_json(*what: str) -> list[dict[str, Any]]:
    """The objects that `nft -j -t list WHAT…` shows, without elements of sets and metainfo; raises NftError."""
    text = await _run(["-j", "-t", "list", *what], "")
    objects: list[dict[str, Any]] = json.loads(text)["nftables"] if text.strip() else []
    return [each for each in objects if "metainfo" not in each]


async def _run(arguments: list[str], script: str) -> str:
    program = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if program is None:
        raise Unavailable("nft is not installed: apt-get install nftables")
    # A file in memory, not a pipe: nft may end without reading it, and a long script needs no feeding.
    descriptor = os.memfd_create("nft-script", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(script.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=descriptor,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    finally:
        os.close(descriptor)
    try:
        async with asyncio.timeout(_TIMEOUT):
            out, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NftError(f"nft did not answer within {_TIMEOUT} seconds") from None
    if process.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines()
        raise NftError(f"nft: {lines[0] if lines else _ending(process.returncode)}")
    return out.decode(errors="replace")


def _ending(returncode: int) -> str:
    """What an nft that said nothing died of: an old one crashes on tables that a newer one has made."""
    if returncode < 0:
        return f"{signal.strsignal(-returncode)}; if a newer nft made tables on this host, delete them with that one"
    return f"exit code {returncode}"
