"""Where the result of `gantry build` goes besides the image store: a directory, an archive, a registry."""

from __future__ import annotations

import csv
import os

from gantry.cli.errors import CommandError
from gantry.cli.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gantry.cli.command import Context

_KINDS = ("docker", "image", "local", "oci", "registry", "tar")


class Output:
    """One `--output`. `dest` is a path, "-" for standard output, "" for none."""

    def __init__(self, kind: str, dest: str, *, push: bool, names: list[str]) -> None:
        self.kind = kind
        self.dest = dest
        self._push = push
        self._names = names

    @property
    def to_stdout(self) -> bool:
        return self.dest == "-"

    def write(self, ctx: Context, image: str) -> None:
        """Raises CommandError, and what the daemon refuses."""
        from gantry.cli.image_transfer import split_name

        for name in self._names:
            if self.kind in ("image", "registry", "docker"):
                repository, tag = split_name(name)
                ctx.client.post(f"/images/{image}/tag", {"repo": repository, "tag": tag or "latest"})
        if self._push:
            from gantry.cli.image_transfer import push_image
            from gantry.model.reference import Reference

            for name in self._names:
                reference = Reference.parse(name)
                push_image(ctx, reference, reference.tag or "latest")
        if self.kind in ("docker", "oci") and self.dest:
            _save(ctx.client.download("/images/get", {"names": self._names or [image]}), self.dest)
        elif self.kind == "tar":
            with _FileSystem(ctx, image) as blocks:
                _save(blocks, self.dest)
        elif self.kind == "local":
            from gantry.client.tarball import BlockReader, unpack

            _make_directory(self.dest)
            with _FileSystem(ctx, image) as blocks:
                unpack(BlockReader(blocks), self.dest, lambda name: name)


def exports(texts: list[str], tags: list[str], *, load: bool, push: bool) -> list[Output]:
    """Read the `--output` flags and their shorthands. Raises CommandError with buildx's words."""
    found = [_parse(text, tags) for text in texts]
    if push:
        if not tags:
            raise CommandError("tag is needed when pushing to registry")
        found.append(Output("registry", "", push=True, names=tags))
    if load:
        found.append(Output("docker", "", push=False, names=[]))
    return found


def _parse(text: str, tags: list[str]) -> Output:
    try:
        (row,) = csv.reader([text])
    except (csv.Error, ValueError):
        raise CommandError(f"invalid value {text}") from None
    if len(row) == 1 and "=" not in row[0]:
        return Output("tar" if row[0] == "-" else "local", row[0], push=False, names=[])
    fields: dict[str, str] = {}
    for field in row:
        key, equals, value = field.partition("=")
        if not equals:
            raise CommandError(f"invalid value {field}")
        fields[key.strip().lower()] = value
    kind = fields.pop("type", "")
    if not kind:
        raise CommandError("type is required for output")
    if kind not in _KINDS:
        raise CommandError(f'exporter "{kind}" could not be found')
    dest = fields.pop("dest", "")
    push = kind == "registry" or fields.pop("push", "").lower() in ("1", "true")
    names = [name for name in fields.pop("name", "").split(",") if name]
    if kind == "local" and not dest:
        raise CommandError("dest is required for local exporter")
    if kind in ("tar", "oci") and not dest:
        dest = "-"
    if dest == "-" and kind == "local":
        raise CommandError("dest cannot be stdout for local exporter")
    if dest == "-" and os.isatty(1):
        raise CommandError("dest file is required for " + kind + " exporter. refusing to write to console")
    if unknown := sorted(fields):
        raise CommandError(f"output option {unknown[0]!r} is not supported")
    if push and not (names or tags):
        raise CommandError("tag is needed when pushing to registry")
    return Output(kind, dest, push=push, names=names or tags)


def write_metadata(path: str, image: str, names: list[str]) -> None:
    """`--metadata-file`, with buildx's keys."""
    from gantry.client.jsontext import encode_text
    from gantry.model.reference import Reference

    document = {"containerimage.config.digest": image, "containerimage.digest": image}
    if names:
        document["image.name"] = ",".join(str(Reference.parse(name)) for name in names)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(encode_text(document) + "\n")
    except OSError as error:
        raise CommandError(f"open {path}: {os.strerror(error.errno or 0).lower()}") from error


class _FileSystem:
    """The image's files as a tar stream, by way of a container that never runs."""

    def __init__(self, ctx: Context, image: str) -> None:
        self._ctx = ctx
        self._image = image
        self._id = ""

    def __enter__(self) -> Iterator[bytes]:
        body = {"Image": self._image, "Cmd": ["-"], "NetworkDisabled": True}
        self._id = self._ctx.client.post("/containers/create", body=body)["Id"]
        return self._ctx.client.download(f"/containers/{self._id}/export")

    def __exit__(self, *error: object) -> None:
        self._ctx.client.delete(f"/containers/{self._id}", {"force": True})


def _save(blocks: Iterable[bytes], dest: str) -> None:
    if dest == "-":
        for block in blocks:
            write_all(1, block)
        return
    try:
        with open(dest, "wb") as file:
            for block in blocks:
                file.write(block)
    except OSError as error:
        raise CommandError(f"open {dest}: {os.strerror(error.errno or 0).lower()}") from error


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise CommandError(f"mkdir {path}: {os.strerror(error.errno or 0).lower()}") from error
