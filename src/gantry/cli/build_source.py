"""Where a build's context and Dockerfile come from: a directory, standard input, or an address the daemon fetches."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from gantry.cli.build_context import END, BuildContext, ignore_patterns
from gantry.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 18
_ARCHIVES = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_DOCKERFILE_LIMIT = 1 << 24


class Source:
    """`blocks` of the context's archive (None where the daemon fetches `remote`); `dockerfile` is its path in it.

    `whole` says that the archive is the user's own: nothing can be added to it.
    """

    def __init__(self, blocks: Iterator[bytes] | None, dockerfile: str, remote: str = "", *, whole: bool = False):
        self.blocks = blocks
        self.dockerfile = dockerfile
        self.remote = remote
        self._whole = whole

    def archive(self, further: list[BuildContext]) -> Iterator[bytes] | None:
        """What is sent: the context and the named ones, None for nothing. Raises CommandError."""
        if self._whole:
            if further:
                raise CommandError("a context on standard input cannot be sent together with named directories")
            return self.blocks
        if self.blocks is None and not further:
            return None
        return _joined(self.blocks, further)


def _joined(blocks: Iterator[bytes] | None, further: list[BuildContext]) -> Iterator[bytes]:
    if blocks is not None:
        yield from blocks
    for context in further:
        yield from context.blocks()
    yield END


def open_source(context: str, dockerfile: str, *, bare: bool = False) -> Source:
    """Look at what the user gave; with `bare`, a directory's Dockerfile alone is sent. Raises CommandError."""
    if context == "-":
        if dockerfile == "-":
            raise CommandError("invalid argument: can't use stdin for both build context and dockerfile")
        return _from_input(dockerfile)
    if is_remote(context):
        if dockerfile == "-":
            raise CommandError("a Dockerfile from standard input needs a local context")
        return Source(None, dockerfile, context)
    return _from_directory(context, dockerfile, bare=bare)


def is_remote(context: str) -> bool:
    """Whether a context is an address: http(s), or a git repository."""
    return context.startswith(("http://", "https://", "git://", "github.com/", "git@", "ssh://"))


# ------------------------------------------------------------------------------ standard input


def _from_input(dockerfile: str) -> Source:
    """A context's archive, or a Dockerfile without a context."""
    head = _read_exactly(512)
    if head.startswith(_ARCHIVES) or (len(head) == 512 and head[257:262] == b"ustar"):
        return Source(_continue(head), dockerfile, whole=True)
    text = head + b"".join(_standard_input(_DOCKERFILE_LIMIT))
    return Source(_only({"Dockerfile": text}), "Dockerfile")


def _read_exactly(size: int) -> bytes:
    data = b""
    while len(data) < size and (block := os.read(0, size - len(data))):
        data += block
    return data


def _continue(head: bytes) -> Iterator[bytes]:
    yield head
    while block := os.read(0, _BLOCK):
        yield block


def _standard_input(limit: int) -> Iterator[bytes]:
    size = 0
    while block := os.read(0, _BLOCK):
        size += len(block)
        if size > limit:
            raise CommandError("unable to prepare context: the Dockerfile on standard input is too long")
        yield block


def _only(files: dict[str, bytes]) -> Iterator[bytes]:
    """An archive of these files alone."""
    import tarfile

    for name, data in files.items():
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o644
        yield entry.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


# ----------------------------------------------------------------------------------- directory


def _from_directory(context: str, dockerfile: str, *, bare: bool) -> Source:
    try:
        root = Path(context).resolve(strict=True)
    except FileNotFoundError:
        raise CommandError(f'unable to prepare context: path "{context}" not found') from None
    except OSError as error:
        words = os.strerror(error.errno or 0).lower()
        raise CommandError(
            f"unable to prepare context: unable to evaluate symlinks in context path: {words}"
        ) from error
    if not root.is_dir():
        raise CommandError(f"unable to prepare context: context must be a directory: {root}")
    extra: dict[str, bytes] = {}
    inside = ""
    path: Path | None = None
    if dockerfile == "-":
        name = _private_name()
        extra[name] = b"".join(_standard_input(_DOCKERFILE_LIMIT))
    else:
        path = _dockerfile(root, dockerfile)
        if path.is_relative_to(root):
            inside = name = path.relative_to(root).as_posix()
        else:
            name = _private_name()
            extra[name] = path.read_bytes()
    patterns = ignore_patterns(root, path, inside)
    if bare:
        ignored = "\n".join(patterns).encode("utf-8", "surrogateescape")
        return Source(_only({name: extra[name] if path is None else path.read_bytes(), ".dockerignore": ignored}), name)
    return Source(BuildContext(root, patterns, extra).blocks(), name)


def _private_name() -> str:
    """A name for a Dockerfile that the context has not; nothing in a context is called so by accident."""
    return f".dockerfile.{secrets.token_hex(10)}"


def _dockerfile(root: Path, given: str) -> Path:
    """The Dockerfile's real path: what was given counts from the working directory, not from the context."""
    path = root / "Dockerfile"
    if given:
        path = Path(os.path.abspath(given))
    if not given and not path.exists() and (root / "dockerfile").exists():
        path = root / "dockerfile"
    try:
        return path.resolve(strict=True)
    except OSError as error:
        words = os.strerror(error.errno or 0).lower()
        raise CommandError(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {path}: {words}"
        ) from error
