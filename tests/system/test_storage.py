"""Mounts, volumes and `cp` on real containers, with both clients."""

import contextlib
import http.client
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.daemon import Client, Daemon
from lib.engine_api import call


@pytest.fixture
def name(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """A prefix of this test's own; containers and volumes that begin with it are removed afterwards."""
    made = "st-" + request.node.name.replace("[", "-").replace("]", "")
    yield made
    for listing, removal in ((("ps", "-aq"), ("rm", "-f", "-v")), (("volume", "ls", "-q"), ("volume", "rm"))):
        if found := client.out(*listing, "--filter", f"name={made}").split():
            client.run(*removal, *found, check=False)


def tar_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class TestMounts:
    def test_image(self, client: Client, name: str) -> None:
        mount = "type=image,source=busybox,target=/i"
        if client.program.endswith("docker") and "28." not in client.out("--version"):
            pytest.skip("this docker client knows no mounts of type image")
        shown = client.out(
            "run", "--rm", "--mount", mount, "busybox", "sh", "-c", "ls /i/bin/busybox; touch /i/x 2>&1; :"
        )
        assert shown.splitlines() == ["/i/bin/busybox", "touch: /i/x: Read-only file system"]
        client.run("run", "-d", "--name", name, "--mount", f"{mount},image-subpath=bin", "busybox", "sleep", "60")
        assert client.out("exec", name, "ls", "/i/busybox") == "/i/busybox"
        client.run("restart", "-t", "0", name)
        assert client.out("exec", name, "ls", "/i/busybox") == "/i/busybox"

    def test_read_only_reaches_below_unless_asked(self, client: Client, daemon: Daemon, name: str) -> None:
        if client.program.endswith("docker") and "28." not in client.out("--version"):
            pytest.skip("this docker client knows no bind-recursive")
        # A volume in memory that is in use is a mount below the directory of all volumes.
        client.run("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", name)
        client.run("run", "-d", "--name", name, "-v", f"{name}:/v", "busybox", "sleep", "60")
        bind = f"type=bind,src={daemon.data_root}/volumes,dst=/m,readonly"
        touch = ("busybox", "touch", f"/m/{name}/_data/x")
        for options, expected in (("", 1), (",bind-recursive=writable", 0), (",bind-recursive=disabled", 1)):
            done = client.run("run", "--rm", "--mount", bind + options, *touch, check=False)
            assert done.returncode == expected, (options, done.stderr)

    def test_image_content_fills_a_new_volume_once(self, client: Client, name: str) -> None:
        assert "busybox" in client.out("run", "--rm", "-v", f"{name}:/bin", "busybox", "/bin/busybox", "ls", "/bin")
        client.run("run", "--rm", "-v", f"{name}:/v", "busybox", "rm", "-rf", "/v/busybox", "/v/ls")
        assert "ls" not in client.out("run", "--rm", "-v", f"{name}:/x", "busybox", "ls", "/x").split()

    def test_a_volume_of_a_directory_and_of_memory(self, client: Client, daemon: Daemon, name: str) -> None:
        (daemon.directory / name).mkdir()
        client.run(
            "volume",
            "create",
            "-o",
            "type=none",
            "-o",
            "o=bind",
            "-o",
            f"device={daemon.directory / name}",
            f"{name}-b",
        )
        client.run("run", "--rm", "-v", f"{name}-b:/v", "busybox", "sh", "-c", "echo kept > /v/f")
        assert (daemon.directory / name / "f").read_text() == "kept\n"
        client.run("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7", f"{name}-t")
        assert client.out("run", "--rm", "-v", f"{name}-t:/v", "busybox", "stat", "-c", "%u", "/v") == "7"


class TestCopy:
    def test_a_stopped_containers_volume_behind_a_link(self, client: Client, name: str, tmp_path: Path) -> None:
        client.run("run", "--name", name, "-v", f"{name}:/v", "busybox", "ln", "-s", "/v", "/link")
        (tmp_path / "f").write_text("sent")
        client.run("cp", str(tmp_path / "f"), f"{name}:/link/f")
        assert client.out("run", "--rm", "-v", f"{name}:/v", "busybox", "cat", "/v/f") == "sent"
        client.run("cp", f"{name}:/v", str(tmp_path / "back"))
        assert (tmp_path / "back" / "f").read_text() == "sent"

    def test_export_of_a_running_container_leaves_mounts_out(self, client: Client, name: str, tmp_path: Path) -> None:
        client.run(
            "run", "-d", "--name", name, "-v", f"{name}:/v", "busybox", "sh", "-c", "touch /own /v/not; sleep 60"
        )
        client.run("export", "-o", str(tmp_path / "e.tar"), name)
        names = subprocess.run(["tar", "-tf", tmp_path / "e.tar"], capture_output=True, text=True, check=True).stdout
        listed = names.splitlines()
        assert {"own", "v/", "proc/", "etc/hosts"} <= set(listed)
        assert not [each for each in listed if each.startswith(("v/n", "proc/1", "sys/k", "dev/n"))]

    @pytest.mark.parametrize("running", [True, False])
    def test_a_swapped_link_leads_nowhere(self, daemon: Daemon, gantry: Client, scratch: Path, running: bool) -> None:
        """CVE-2018-15664: while files are copied, a directory is exchanged with a link to the host's root."""
        name = f"st-swap-{running}"
        secret = scratch / "secret"
        secret.mkdir()
        (secret / "host").write_text("the host's")
        # Inside, /x/d is a directory, then a link to where the host has its secret, then a directory again, ...
        script = f"mkdir -p /x/a; echo inside > /x/a/host; ln -s {secret} /x/b; ln -s / /x/c; cd /x; " + (
            "while :; do ln -sfn a d; ln -sfn b d; ln -sfn c d; done" if running else "mv a d"
        )
        gantry.run("run", "-d", "--name", name, "-v", f"{name}:/x", "busybox", "sh", "-c", script)
        stop = threading.Event()
        swapper = threading.Thread(
            target=self._swap, args=(daemon.data_root / "volumes" / name / "_data", secret, stop)
        )
        if not running:
            gantry.run("wait", name)
            swapper.start()
        target = f"/containers/{name}/archive?path=/x/d"
        try:
            for _ in range(60):
                with contextlib.suppress(AssertionError, http.client.HTTPException):  # the path may just be gone
                    data = call(daemon.socket, "GET", f"/v1.45{target}/host")
                    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                        for entry in archive:
                            extracted = archive.extractfile(entry)
                            assert extracted is None or b"the host's" not in extracted.read(), "the host's file got out"
                with contextlib.suppress(AssertionError, http.client.HTTPException):
                    call(daemon.socket, "PUT", f"/v1.45{target}", tar_of(planted=b"x"))
        finally:
            stop.set()
            if swapper.ident:
                swapper.join()
            gantry.run("rm", "-f", "-v", name)
            gantry.run("volume", "rm", name)
        assert [each.name for each in secret.iterdir()] == ["host"]
        assert not Path("/planted").exists()

    @staticmethod
    def _swap(volume: Path, secret: Path, stop: threading.Event) -> None:
        link, aside = volume / "d", volume / "aside"
        while not stop.is_set():
            link.rename(aside)
            link.symlink_to(secret)
            link.unlink()
            aside.rename(link)


class TestVolumeContents:
    """What Docker does not have: only our own command line knows it."""

    @pytest.fixture(autouse=True)
    def only_ours(self, client: Client) -> None:
        if client.program.endswith("docker"):
            pytest.skip("the official client has no such commands")

    def test_export_import_clone_rename(self, client: Client, name: str, tmp_path: Path) -> None:
        client.run("volume", "create", "--label", "a=b", f"{name}-1")
        write = "echo one > /v/f; mkdir /v/d; chown 5:6 /v/d; ln -s f /v/l"
        client.run("run", "--rm", "-v", f"{name}-1:/v", "busybox", "sh", "-c", write)
        client.run("volume", "export", "-o", str(tmp_path / "v.tar"), f"{name}-1")
        assert client.out("volume", "import", f"{name}-2", str(tmp_path / "v.tar")) == f"{name}-2"
        assert client.out("volume", "clone", f"{name}-1", f"{name}-3") == f"{name}-3"
        client.run("volume", "rename", f"{name}-3", f"{name}-4")
        look = ("busybox", "sh", "-c", "cat /v/l; stat -c '%u %g' /v/d")
        for number in (1, 2, 4):
            assert client.out("run", "--rm", "-v", f"{name}-{number}:/v", *look) == "one\n5 6", number
        assert client.out("volume", "inspect", "-f", "{{json .Labels}}", f"{name}-4") == '{"a":"b"}'
        assert client.run("volume", "inspect", f"{name}-3", check=False).returncode == 1
        mountpoint = json.loads(client.out("volume", "inspect", f"{name}-4"))[0]["Mountpoint"]
        assert mountpoint.endswith(f"{name}-4/_data")

    def test_refused(self, client: Client, name: str, tmp_path: Path) -> None:
        client.run("volume", "create", f"{name}-1")
        client.run("create", "--name", name, "-v", f"{name}-1:/v", "busybox")
        for command, message in (
            (("rename", f"{name}-1", f"{name}-2"), "volume is in use"),
            (("rename", f"{name}-none", f"{name}-2"), "no such volume"),
            (("clone", f"{name}-1", f"{name}-1"), "exists already"),
            (("clone", f"{name}-1", "a/b"), "includes invalid characters"),
            (("export", f"{name}-none"), "no such volume"),
        ):
            refused = client.run("volume", *command, check=False)
            assert refused.returncode == 1, command
            assert message in refused.stderr, (command, refused.stderr)

    def test_nothing_is_left_of_a_broken_archive(
        self, client: Client, daemon: Daemon, name: str, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.tar").write_bytes(tar_of(f=b"x" * 3000)[:2000])
        assert client.run("volume", "import", name, str(tmp_path / "bad.tar"), check=False).returncode == 1
        assert client.run("volume", "inspect", name, check=False).returncode == 1
        assert not (daemon.data_root / "volumes" / name).exists()
