"""Git repositories as contexts and as sources of ADD: one commit, fetched without the daemon's own git setup."""

import asyncio
import os
import re
import shutil
from pathlib import Path
from urllib.parse import parse_qsl

import msgspec

from gantry.aio import run_blocking
from gantry.errors import InvalidArgument, Unavailable
from gantry.linux.openat2 import open_directory

_REF = re.compile(r"[A-Za-z0-9_.][\w./@^~+-]*")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_QUERY = frozenset({"ref", "tag", "branch", "commit", "checksum", "subdir", "keep-git-dir", "submodules"})
_GIT_TIMEOUT = 600.0
# Nothing of the daemon's own git configuration counts, nothing on its disk is a repository, no hook runs.
_GIT = (
    "git", "-c", "core.hooksPath=/dev/null", "-c", "protocol.file.allow=never", "-c", "protocol.ext.allow=never",
    "-c", "core.fsmonitor=false", "-c", "core.symlinks=true", "-c", "advice.detachedHead=false",
)  # fmt: skip


class GitSource(msgspec.Struct, frozen=True):
    """`ref` is a branch, a tag or a commit, "" for the remote's HEAD; `checksum` the commit that it must be."""

    url: str
    ref: str = ""
    subdirectory: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    submodules: bool = True


def parse_git(remote: str) -> GitSource:
    """`URL#ref:subdirectory`, or `URL?ref=…&subdir=…`. Raises InvalidArgument, also for a ref that is an option."""
    address, _, fragment = remote.partition("#")
    url, question, query = address.partition("?")
    ref, _, subdirectory = fragment.partition(":")
    found = {"ref": ref, "subdir": subdirectory}
    for key, value in parse_qsl(query, keep_blank_values=True) if question else ():
        if key not in _QUERY:
            raise InvalidArgument(f'unexpected query "{key[:64]}" in git URL')
        name = "ref" if key in ("tag", "branch") else "checksum" if key == "commit" else key
        if found.get(name):
            raise InvalidArgument(f'conflicting "{key}" in git URL: {remote[:128]}')
        found[name] = value
    if url.startswith("github.com/"):
        url = f"https://{url}"
    if url.startswith("-") or (found["ref"] and not _REF.fullmatch(found["ref"])):
        raise InvalidArgument(f"invalid git reference: {remote[:128]}")
    if found.get("checksum") and not _COMMIT.fullmatch(found["checksum"]):
        raise InvalidArgument(f"invalid checksum of a git commit: {found['checksum'][:128]}")
    return GitSource(
        url, found["ref"], found["subdir"], found.get("checksum", ""),
        found.get("keep-git-dir", "").lower() in ("1", "true"),
        found.get("submodules", "").lower() not in ("0", "false"),
    )  # fmt: skip


async def clone(source: GitSource, directory: Path, scratch: Path) -> str:
    """Fetch one commit, and put it or its subdirectory into `directory`; returns the commit. Raises GantryError."""
    if not shutil.which("git"):
        raise Unavailable("a git repository needs git: apt-get install git")
    checkout = scratch / "checkout"
    await run_blocking(checkout.mkdir)
    await _git(checkout, scratch, "init", "--quiet")
    await _git(checkout, scratch, "remote", "add", "origin", "--", source.url)
    wanted = source.ref or source.checksum or "HEAD"
    fetch = ("fetch", "--quiet", "--no-tags", "origin")
    try:
        await _git(checkout, scratch, *fetch, "--depth=1", "--", wanted)
    except InvalidArgument:
        if not _COMMIT.fullmatch(wanted):
            raise
        # Many servers hand out a commit by its name only as a part of a branch.
        await _git(checkout, scratch, *fetch, "--", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        await _git(checkout, scratch, "update-ref", "FETCH_HEAD", f"{wanted}^{{commit}}")
    await _git(checkout, scratch, "checkout", "--quiet", "FETCH_HEAD")
    commit = (await _git(checkout, scratch, "rev-parse", "HEAD")).strip()
    if source.checksum and not commit.startswith(source.checksum):
        raise InvalidArgument(f"expected checksum to match {source.checksum}, got {commit}")
    if source.submodules:
        await _git(checkout, scratch, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    await run_blocking(_take_checkout, checkout, source, directory)
    return commit


async def _git(checkout: Path, home: Path, *arguments: str) -> str:
    """What git prints; raises InvalidArgument with its complaint."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_ALLOW_PROTOCOL": "http:https:git:ssh", "LC_ALL": "C",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *_GIT, "-C", str(checkout), *arguments, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_GIT_TIMEOUT):
            printed, said = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        reason = " ".join(said.decode("utf-8", "replace").split())[-400:]
        raise InvalidArgument(f"failed to load git context: git {arguments[0]}: {reason}")
    return printed.decode("utf-8", "replace")


def _take_checkout(checkout: Path, source: GitSource, directory: Path) -> None:
    """Move the subdirectory's entries; it is looked up inside the checkout, whatever links say."""
    root = os.open(checkout, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            chosen = open_directory(root, source.subdirectory)
        except OSError as error:
            raise InvalidArgument(f"failed to load git context: {source.subdirectory}: no such directory") from error
        target = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(chosen):  # noqa: PTH208
                if name != ".git" or source.keep_git_dir:
                    os.rename(name, name, src_dir_fd=chosen, dst_dir_fd=target)
        finally:
            os.close(chosen)
            os.close(target)
    finally:
        os.close(root)
