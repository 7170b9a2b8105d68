"""Files over HTTP: `ADD https://…` and remote contexts."""

import email.utils
import hashlib
import posixpath
import time
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import msgspec

from gantry.aio import run_blocking
from gantry.build.errors import StepFailed
from gantry.build.progress import StepLog

MAX_DOWNLOAD = 16 << 30
_CHUNK = 1 << 20
_CONNECT, _IDLE = 30.0, 120.0  # seconds


class Download(msgspec.Struct, frozen=True):
    """`digest` is of the bytes; `mtime` is nanoseconds since the epoch, 0 where the server told none."""

    path: Path
    name: str
    digest: str
    mtime: int
    content_type: str


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def is_git(text: str) -> bool:
    """Whether a context or an ADD source means a git repository (Docker's rules)."""
    if text.startswith(("git://", "git@", "github.com/", "ssh://")):
        return True
    path = text.partition("#")[0].partition("?")[0]
    return is_url(text) and path.endswith(".git")


def file_name(url: str) -> str:
    """The last part of a URL's path, "" where it has none."""
    name = posixpath.basename(unquote(urlsplit(url).path))
    return "" if name in (".", "..") or "\0" in name else name


async def download(url: str, target: Path, log: StepLog | None = None, limit: int = MAX_DOWNLOAD) -> Download:
    """Fetch `url` into the new file `target`; raises StepFailed with the reason."""
    import aiohttp  # the client is not needed by a daemon that downloads nothing

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_IDLE)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False) as session,
            session.get(url, max_redirects=10) as answer,
        ):
            if answer.status >= 400:
                raise StepFailed(f"failed to GET {url} with status {answer.status} {answer.reason}")
            total = answer.content_length or 0
            if total > limit:
                raise StepFailed(f"{url}: {total} bytes are more than the {limit} that are accepted")
            digest = hashlib.sha256()
            received = 0
            with await run_blocking(target.open, "xb") as file:
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    received += len(chunk)
                    if received > limit:
                        raise StepFailed(f"{url}: more than the {limit} bytes that are accepted")
                    await run_blocking(_take, file, digest, chunk)
                    if log is not None:
                        log.status("Downloading", current=received, total=total)
            return Download(
                target, file_name(str(answer.url)) or file_name(url), "sha256:" + digest.hexdigest(),
                _moment(answer.headers.get("Last-Modified", "")), answer.headers.get("Content-Type", ""),
            )  # fmt: skip
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise StepFailed(f'Get "{url}": {error or type(error).__name__}') from error


def _take(file: BinaryIO, digest: "hashlib._Hash", chunk: bytes) -> None:
    file.write(chunk)
    digest.update(chunk)


def _moment(text: str) -> int:
    parsed = email.utils.parsedate_tz(text) if text else None
    if parsed is None:
        return 0
    seconds = email.utils.mktime_tz(parsed)
    return seconds * 1_000_000_000 if 0 < seconds < time.time() + 86400 * 366 else 0
