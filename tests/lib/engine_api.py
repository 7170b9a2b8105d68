"""The Engine API without any client library: one request on one connection, over a unix socket."""

import http.client
import io
import json
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float = 60) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def call(path: Path, method: str, target: str, body: Any = None, *, expect: tuple[int, ...] = (200, 201, 204)) -> Any:
    """One call; the decoded JSON of the answer, or its bytes. Any other status fails the test."""
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
    connection = UnixConnection(path)
    try:
        connection.request(method, target, raw, {} if raw is None else {"Content-Type": kind})
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    assert answer.status in expect, f"{method} {target}: {answer.status} {data.decode(errors='replace')}"
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data


def busybox_tar() -> bytes:
    """A root file system: static busybox and its names."""
    names = subprocess.run(["busybox", "--list"], capture_output=True, check=True, text=True).stdout.split()
    program = Path(
        subprocess.run(["sh", "-c", "command -v busybox"], capture_output=True, check=True, text=True).stdout.strip()
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in ("bin", "etc", "tmp", "root"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        data = program.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(data), 0o755
        archive.addfile(entry, io.BytesIO(data))
        for name in names:
            if name != "busybox":
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(entry)
    return buffer.getvalue()


def make_busybox(path: Path) -> None:
    """Give a daemon an image `busybox:latest`."""
    call(path, "POST", "/images/create?fromSrc=-&repo=busybox&tag=latest&changes=CMD+sh", busybox_tar())
