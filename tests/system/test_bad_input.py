"""Bad input: Docker's status and one line, nothing half-made, and a daemon that goes on."""

import hashlib
import io
import json
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.daemon import BIN, Client, Daemon


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def archive(layer: bytes, *, diff_id: str = "") -> bytes:
    """A docker-archive of one layer."""
    config = json.dumps(
        {
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id or "sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()  # fmt: skip
    manifest = json.dumps(
        [{"Config": "config.json", "RepoTags": ["bad/image:latest"], "Layers": ["layer.tar"]}]
    ).encode()
    return tar(entry("config.json", config), entry("layer.tar", layer), entry("manifest.json", manifest))


@pytest.fixture(autouse=True)
def daemon_goes_on(gantry: Client) -> Iterator[None]:
    before = gantry.out("images", "-aq")
    yield
    assert gantry.out("images", "-aq") == before
    assert gantry.out("run", "--rm", "busybox", "echo", "alive") == "alive"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"not a tar at all" * 100, id="not a tar"),
        pytest.param(archive(tar(entry("f", b"x" * 5000)))[:4000], id="truncated"),
        pytest.param(archive(tar(entry("f", b"x")), diff_id="sha256:" + "0" * 64), id="wrong diff ID"),
        pytest.param(tar(entry("manifest.json", b"{not json")), id="manifest is not JSON"),
        pytest.param(archive(tar(entry("../../escaped", b"x"))), id="name leaves the root"),
        pytest.param(
            archive(
                tar(
                    entry("link", type=tarfile.SYMTYPE, linkname="../../../../../../var/tmp"),
                    entry("link/escaped", b"x"),
                )
            ),
            id="written through a symlink",
        ),
        pytest.param(
            archive(tar(entry("hard", type=tarfile.LNKTYPE, linkname="../../../../etc/passwd"))),
            id="hard link leaves the root",
        ),
    ],
)
def test_hostile_archives(client: Client, data: bytes, gantry: Client) -> None:
    done = client.run("load", check=False, stdin=data)
    assert not Path("/var/tmp/escaped").exists()
    assert not Path("/escaped").exists()
    if done.returncode == 0:
        # What Docker contains instead of refusing it stays inside the image's own root.
        gantry.run("rmi", "-f", "bad/image:latest")
        return
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("builder")
def test_unknown_instruction(client: Client, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nFOO bar\n")
    done = client.run("build", ".", cwd=tmp_path, check=False, DOCKER_BUILDKIT="0")
    assert done.returncode == 1
    assert "dockerfile parse error on line 2: unknown instruction: FOO" in done.stderr


def test_port_in_use(client: Client) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = client.run("run", "--rm", "-p", f"{port}:80", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "address already in use" in done.stderr or "port is already allocated" in done.stderr


def test_name_taken(client: Client) -> None:
    client.run("create", "--name", "bad-name", "busybox")
    try:
        done = client.run("create", "--name", "bad-name", "busybox", check=False)
        assert done.returncode == 1
        assert 'Conflict. The container name "/bad-name" is already in use by container' in done.stderr
    finally:
        client.run("rm", "bad-name")


def test_image_missing(client: Client) -> None:
    done = client.run("inspect", "--type", "image", "no/such:image", check=False)
    assert done.returncode == 1
    assert "No such image: no/such:image" in done.stderr


def test_full_disk(scratch: Path) -> None:
    """A data root on a small file system of its own: clear error, nothing half made, and the daemon goes on."""
    import subprocess

    image, mount = scratch / "disk.img", scratch / "m"
    with image.open("wb") as file:
        file.truncate(48 << 20)
    mount.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=False).returncode:
        pytest.skip("this kernel has no loop devices")
    daemon = Daemon(mount)
    try:
        daemon.start()
        client = Client(str(BIN / "gantry"), daemon.host, scratch / "config")
        client.run("image", "bootstrap", "busybox", "-t", "busybox")
        big = tar(entry("big", b"\0" * (64 << 20)))
        done = client.run("import", "-", "big:latest", stdin=big, check=False)
        assert done.returncode == 1
        assert "no space left on device" in done.stderr
        assert "big" not in client.out("images")
        assert client.out("run", "--rm", "busybox", "echo", "alive") == "alive"
    finally:
        daemon.stop()
        subprocess.run(["umount", str(mount)], check=True)
