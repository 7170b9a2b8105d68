"""The images of the cases, made on this machine: archives as `docker save` writes them, the same for every engine."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench.model import Scale

_MEGABYTE = 1 << 20
_EPOCH = "2024-01-01T00:00:00Z"
_DEBIAN_FILES = 9_500
_DEBIAN_BYTES = 180 * _MEGABYTE


class Images:
    """Archives by name, made on first use: busybox, debian, layers, gigabyte, files."""

    NAMES = ("debian", "layers", "gigabyte", "files")

    def __init__(self, scratch: Path, scale: Scale) -> None:
        self._directory = scratch / "images"
        self._directory.mkdir()
        self._scale = scale
        self._busybox = Path(shutil.which("busybox") or "/bin/busybox")

    def root(self) -> Path:
        """A root directory with busybox and its applets."""
        root = self._directory / "root"
        if not root.exists():
            root.mkdir()
            subprocess.run(["tar", "-C", root, "-x"], input=self._base(), check=True)
        return root

    def archive(self, name: str) -> Path:
        """The archive of bench/NAME; every image can run /bin/true."""
        path = self._directory / f"{name}.tar"
        if not path.exists():
            makers: dict[str, Callable[[], Iterable[Path]]] = {
                "busybox": lambda: (),
                "debian": lambda: [self._layer(self._debian())],
                "layers": lambda: [self._layer(self._small(number)) for number in range(self._scale.pick(4, 40, 40))],
                "gigabyte": lambda: [self._layer(self._big())],
                "files": lambda: [self._layer(self._many())],
            }
            base = self._directory / "base.layer"
            if not base.exists():
                base.write_bytes(self._base())
            layers = [base, *makers[name]()]
            _write_archive(path, f"docker.io/bench/{name}:latest", layers)
            for layer in layers[1:]:
                layer.unlink()
        return path

    def forget(self, name: str) -> None:
        """Give an archive's disk space back."""
        (self._directory / f"{name}.tar").unlink(missing_ok=True)

    def _base(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as layer:
            for name in ("bin", "etc", "tmp", "data", "root"):
                layer.addfile(_directory(name))
            program = self._busybox.read_bytes()
            layer.addfile(_file("bin/busybox", len(program), 0o755), io.BytesIO(program))
            applets = subprocess.run([self._busybox, "--list"], capture_output=True, text=True, check=True).stdout
            for applet in sorted(set(applets.split()) - {"busybox"}):
                if "/" not in applet:
                    link = tarfile.TarInfo(f"bin/{applet}")
                    link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                    layer.addfile(link)
            for name, text in (("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")):
                layer.addfile(_file(name, len(text)), io.BytesIO(text.encode()))
        return buffer.getvalue()

    def _layer(self, entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
        path = self._directory / f"{len(list(self._directory.iterdir()))}.layer"
        with tarfile.open(path, "w") as layer:
            for entry, content in entries:
                layer.addfile(entry, io.BytesIO(content) if entry.isreg() else None)
        return path

    def _debian(self) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        """This machine's own /usr, 180 MB in 9,500 files, as a distribution's layer is."""
        files, size = self._scale.pick(50, _DEBIAN_FILES, _DEBIAN_FILES), 0
        limit = self._scale.pick(_MEGABYTE, _DEBIAN_BYTES, _DEBIAN_BYTES)
        yield _directory("usr"), b""
        for directory, folders, names in os.walk("/usr/"):
            folders.sort()
            below = Path(directory)
            if directory != "/usr/":
                yield _directory(directory.strip("/")), b""
            for name in sorted(names):
                path = below / name
                inside = str(path.relative_to("/"))
                if path.is_symlink():
                    link = tarfile.TarInfo(inside)
                    link.type, link.linkname = tarfile.SYMTYPE, str(path.readlink())
                    yield link, b""
                elif path.is_file() and (length := path.stat().st_size) <= 8 * _MEGABYTE:
                    if not files or size + length > limit:
                        return
                    files -= 1
                    size += length
                    yield _file(inside, length, path.stat().st_mode & 0o7777), path.read_bytes()

    def _small(self, number: int) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        for file in range(10):
            content = f"layer {number} file {file}\n".encode() * 100
            yield _file(f"small-{number}-{file}", len(content)), content

    def _big(self) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        content = os.urandom(self._scale.pick(1, 256, 1024) * _MEGABYTE)
        yield _file("big", len(content)), content

    def _many(self) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        for number in range(self._scale.pick(200, 50_000, 50_000)):
            if number % 500 == 0:
                yield _directory(f"many/{number // 500}"), b""
            content = b"%d\n" % number * 20
            yield _file(f"many/{number // 500}/{number}", len(content)), content


def _directory(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


def _file(name: str, size: int, mode: int = 0o644) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, mode
    return entry


def _write_archive(path: Path, tag: str, layers: list[Path]) -> None:
    """The docker-archive format: layers, a configuration and manifest.json."""
    diff_ids = [_sha256(layer) for layer in layers]
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux", "created": _EPOCH, "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one}" for one in diff_ids]},
            "history": [{"created": _EPOCH, "created_by": "bench"} for _ in layers],
        }
    ).encode()  # fmt: skip
    name = hashlib.sha256(config).hexdigest() + ".json"
    names = [f"{number}-{one[:12]}/layer.tar" for number, one in enumerate(diff_ids)]
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": names}]).encode()
    with tarfile.open(path, "w") as archive:
        archive.addfile(_file(name, len(config)), io.BytesIO(config))
        for inside, layer in zip(names, layers, strict=True):
            with layer.open("rb") as data:
                archive.addfile(_file(inside, layer.stat().st_size), data)
        archive.addfile(_file("manifest.json", len(manifest)), io.BytesIO(manifest))


def _sha256(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
