"""COPY and ADD: from the context, a stage, an image or a URL into the state before."""

import os
import posixpath
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from gantry.aio import run_blocking
from gantry.build.copy_files import Rules, Target, copy_path, parse_chmod, write_file
from gantry.build.digest import source_digest
from gantry.build.errors import StepFailed
from gantry.build.fetch import Download, download, file_name, is_git, is_url
from gantry.build.git import GitSource, clone, parse_git
from gantry.build.metadata import config_text
from gantry.build.owner import resolve_owner
from gantry.build.progress import StepLog
from gantry.build.selection import select
from gantry.build.state import BuildState, key_of
from gantry.build.workspace import Definition, Workspace
from gantry.errors import GantryError, Internal, InvalidArgument
from gantry.linux.openat2 import openat2
from gantry.model.ignore import IgnoreMatcher
from gantry.oci import archive
from gantry.oci.compression import open_compressed
from gantry.oci.tar_reader import TarReader

_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class CopySpec(msgspec.Struct, frozen=True):
    """One COPY or ADD, expanded. `name` is "COPY" or "ADD", `documents` are (file name, text).

    `unpack` is None for ADD's own rule: archives of the context are unpacked, downloads are not.
    """

    name: str
    sources: tuple[str, ...]
    destination: str
    documents: tuple[tuple[str, str], ...] = ()
    chown: str = ""
    chmod: str = ""
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool = False
    parents: bool = False
    unpack: bool | None = None


class Checkout(msgspec.Struct, frozen=True):
    """A repository's files at one commit, fetched for an ADD."""

    source: GitSource
    directory: Path
    commit: str


class CopyOp:
    """`context` is the context's directory, None where the source is the second input; `scratch` takes downloads."""

    def __init__(
        self, workspace: Workspace, spec: CopySpec, definition: Definition, context: Path | None, scratch: Path
    ) -> None:
        self._workspace = workspace
        self._spec = spec
        self._definition = definition
        self._context = context
        self._scratch = scratch
        self._downloads: dict[str, Download] = {}
        self._repositories: dict[str, GitSource] = {}
        self._checkouts: dict[str, Checkout] = {}
        self._label = ""
        # The context and the downloads belong to one build and go away with it.
        self.shareable = context is None
        for source in spec.sources:
            self._check(source)
        if len(spec.sources) + len(spec.documents) > 1 and not spec.destination.endswith("/"):
            raise _many(spec.name)

    def _check(self, source: str) -> None:
        if self._spec.name == "ADD" and is_git(source):
            self._repositories[source] = parse_git(source)
        elif is_url(source):
            if self._spec.name != "ADD":
                raise StepFailed("source can't be a URL for COPY")
            if self._spec.destination.endswith("/") and not file_name(source):
                raise StepFailed(f"cannot determine filename from url: {source}")
        elif self._context is not None and posixpath.normpath(source.lstrip("/") or ".").split("/")[0] == "..":
            raise StepFailed(f"{self._spec.name} failed: forbidden path outside the build context: {source} ()")

    # ------------------------------------------------------------------------------------------ keys

    def cache_key(self, inputs: Sequence[BuildState]) -> str:
        """From a stage, what the stage is says what is copied; a context must be looked at."""
        if self._context is not None:
            return ""
        return key_of("copy-from", inputs[1].identity, self._key(inputs))

    async def content_key(self, inputs: Sequence[BuildState]) -> str:
        await self._fetch(None)
        async with self._source(inputs) as source:
            kind, digest = await run_blocking(self._digest, source)
        self._label = f"{kind}:{digest}"
        return key_of("copy", self._label, self._key(inputs))

    def _key(self, inputs: Sequence[BuildState]) -> str:
        spec = self._spec
        return key_of(
            inputs[0].identity, config_text(self._definition), spec.name, "\0".join(spec.sources), spec.destination,
            *(text for document in spec.documents for text in document), spec.chown, spec.chmod,
            "\0".join(spec.exclude), str(spec.unpack), *(("parents",) if spec.parents else ()),
            *(("keep git",) if spec.keep_git_dir else ()),
        )  # fmt: skip

    @asynccontextmanager
    async def _source(self, inputs: Sequence[BuildState]) -> AsyncIterator[Path]:
        if self._context is not None:
            yield self._context
            return
        async with self._workspace.view(inputs[1]) as path:
            yield path

    def _digest(self, source: Path) -> tuple[str, str]:
        """What is copied, as (kind, digest); raises StepFailed where a source is missing."""
        root = os.open(source, _ROOT)
        try:
            paths = self._paths(root)
            owners = self._context is None and not self._spec.chown
            kind, digest = source_digest(root, paths, owners=owners, excluded=self._excluded())
            if self._spec.parents:
                digest = key_of(digest, *paths)
        except OSError as error:
            raise _failed(self._spec.name, error) from error
        finally:
            os.close(root)
        fetched = [got.digest for got in self._downloads.values()]
        fetched += [f"{got.commit} {got.source.subdirectory}" for got in self._checkouts.values()]
        if not fetched:
            return kind, digest
        if len(self._spec.sources) == 1 and self._downloads:
            return "file", fetched[0][7:]
        return "multi", key_of(digest, *fetched)

    def _paths(self, root: int) -> list[str]:
        """The chosen paths of the source tree, in the order of the instruction."""
        found: list[str] = []
        for source in self._spec.sources:
            if self._is_remote(source):
                continue
            try:
                found += select(root, source)
            except FileNotFoundError as error:
                if self._context is not None:
                    missing = f"file not found in build context or excluded by .dockerignore: stat {source}"
                    raise StepFailed(f"{self._spec.name} failed: {missing}: file does not exist") from error
                raise StepFailed(f"{self._spec.name} failed: stat {source}: file does not exist") from error
        if not found and not self._spec.documents and not any(map(self._is_remote, self._spec.sources)):
            raise StepFailed(f"{self._spec.name} failed: no source files were specified")
        if len(found) + len(self._spec.documents) > 1 and not self._spec.destination.endswith("/"):
            raise _many(self._spec.name)
        return list(dict.fromkeys(found))

    def _is_remote(self, source: str) -> bool:
        return source in self._repositories or is_url(source)

    def _excluded(self) -> Callable[[str], bool] | None:
        return IgnoreMatcher(self._spec.exclude).excludes if self._spec.exclude else None

    async def _fetch(self, log: StepLog | None) -> None:
        for number, url in enumerate(self._spec.sources):
            if url in self._repositories:
                await self._clone(url, self._scratch / f"git-{id(self):x}-{number}")
                continue
            if not is_url(url) or url in self._downloads:
                continue
            try:
                got = await download(url, self._scratch / f"download-{id(self):x}-{number}", log)
            except StepFailed as error:
                raise StepFailed(f"ADD failed: {error.message}") from error
            if self._spec.checksum and got.digest != self._spec.checksum:
                raise StepFailed(f"digest mismatch {got.digest}: {self._spec.checksum}")
            self._downloads[url] = got

    async def _clone(self, url: str, scratch: Path) -> None:
        if url in self._checkouts:
            return
        spec, source = self._spec, self._repositories[url]
        source = msgspec.structs.replace(
            source, checksum=spec.checksum or source.checksum, keep_git_dir=spec.keep_git_dir or source.keep_git_dir
        )
        directory = scratch / "tree"
        await run_blocking(directory.mkdir, parents=True)
        try:
            commit = await clone(source, directory, scratch)
        except GantryError as error:
            raise StepFailed(f"ADD failed: {error.message}") from error
        self._checkouts[url] = Checkout(source, directory, commit)

    # ------------------------------------------------------------------------------------------ work

    async def run(self, inputs: Sequence[BuildState], log: StepLog) -> BuildState:
        parent = inputs[0]
        await self._fetch(log)
        async with self._workspace.active(parent) as active:
            async with self._source(inputs) as source, self._workspace.mounted(active.mounts) as target:
                await run_blocking(self._copy, source, target)
            layer, chain = await self._workspace.commit(active, parent)
            spec = self._spec
            made = f"{self._definition.created_by} #(nop) {spec.name} {self._label} in {spec.destination} "
            definition = msgspec.structs.replace(self._definition, created_by=made)
            return await self._workspace.image(parent, definition, layer, chain)

    def _copy(self, source: Path, target: Path) -> None:
        spec = self._spec
        from_root = os.open(source, _ROOT)
        to_root = os.open(target, _ROOT)
        try:
            owner = resolve_owner(to_root, spec.chown) if spec.chown else None
            if owner is None and self._context is not None:
                owner = (0, 0)
            rules = Rules(
                owner, parse_chmod(spec.chmod) if spec.chmod else None, nodes=self._context is None,
                excluded=self._excluded(),
            )  # fmt: skip
            tree = Target(to_root)
            paths = self._paths(from_root)
            into = spec.destination.endswith("/")
            for path in paths:
                if spec.parents:
                    self._copy_with_parents(from_root, path, tree, rules)
                elif not self._unpacked(from_root, path, target, tree, rules):
                    copy_path(from_root, path, tree, spec.destination, rules, into=into)
            for url in spec.sources:
                if url in self._checkouts:
                    self._add_checkout(self._checkouts[url], tree, rules)
                elif is_url(url):
                    self._add_download(self._downloads[url], target, tree, rules)
            for name, text in spec.documents:
                place = posixpath.join(spec.destination, name) if self._is_directory(tree) else spec.destination
                write_file(text.encode("utf-8", "surrogateescape"), tree, place, rules, mode=0o644)
        except OSError as error:
            raise _failed(spec.name, error) from error
        finally:
            os.close(from_root)
            os.close(to_root)

    def _copy_with_parents(self, root: int, path: str, tree: Target, rules: Rules) -> None:
        """Copy to the same place below the destination; what stands before `/./` in the pattern does not count."""
        kept = path
        for pattern in self._spec.sources:
            before, pivot, _ = pattern.lstrip("/").partition("/./")
            depth = len([part for part in before.split("/") if part not in ("", ".")]) if pivot else 0
            if path in select(root, pattern):
                kept = "/".join(path.split("/")[depth:])
                break
        place = posixpath.join(self._spec.destination, kept)
        opened = openat2(root, path or ".", os.O_PATH)
        try:
            directory = stat.S_ISDIR(os.fstat(opened).st_mode)
        finally:
            os.close(opened)
        copy_path(root, path, tree, place if directory else posixpath.dirname(place) + "/", rules, into=True)

    def _is_directory(self, tree: Target) -> bool:
        return self._spec.destination.endswith("/") or tree.is_directory(self._spec.destination)

    def _unpacked(self, root: int, path: str, target: Path, tree: Target, rules: Rules) -> bool:
        """Unpack a local archive of ADD; False where it is none."""
        if self._spec.name != "ADD" or self._spec.unpack is False:
            return False
        file = archive_at(root, path)
        if file is None:
            return False
        with file:
            self._unpack(file, target, tree, rules)
        return True

    def _unpack(self, file: BinaryIO, target: Path, tree: Target, rules: Rules) -> None:
        os.close(tree.directory(self._spec.destination, rules))
        archive.unpack(target, self._spec.destination, file, chown=rules.owner if self._spec.chown else None)

    def _add_checkout(self, got: Checkout, tree: Target, rules: Rules) -> None:
        root = os.open(got.directory, _ROOT)
        try:
            copy_path(root, "", tree, self._spec.destination, rules, into=True)
        finally:
            os.close(root)

    def _add_download(self, got: Download, target: Path, tree: Target, rules: Rules) -> None:
        with got.path.open("rb") as file:
            if self._spec.unpack and _is_archive(file):
                self._unpack(file, target, tree, rules)
                return
        place = self._spec.destination
        if self._is_directory(tree):
            if not got.name:
                raise StepFailed(f"cannot determine filename from url: {self._spec.sources[0]}")
            place = posixpath.join(place, got.name)
        write_file(got.path, tree, place, rules, mode=0o600, mtime=got.mtime)


def archive_at(root: int, path: str) -> BinaryIO | None:
    """The open file at `path` where it is an archive, compressed or not."""
    descriptor = openat2(root, path or ".", os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    file = cast("BinaryIO", os.fdopen(descriptor, "rb"))
    if _is_archive(file):
        return file
    file.close()
    return None


def _is_archive(file: BinaryIO) -> bool:
    try:
        return next(iter(TarReader(open_compressed(file))), None) is not None
    except (InvalidArgument, OSError):
        return False
    finally:
        file.seek(0)


def _many(name: str) -> StepFailed:
    return StepFailed(
        f"When using {name} with more than one source file, the destination must be a directory and end with a /"
    )


def _failed(name: str, error: OSError) -> Exception:
    """A full disk is the host's trouble; everything else is what the paths are."""
    reason = (error.strerror or str(error)).lower()
    if error.errno in (5, 28, 122):  # EIO, ENOSPC, EDQUOT
        return Internal(f"failed to copy files: {reason}")
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return StepFailed(f"{name} failed: {where}{reason}")
