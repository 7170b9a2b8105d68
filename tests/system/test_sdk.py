"""The Docker SDK for Python, unchanged, on our daemon."""

import io
import tarfile
from collections.abc import Iterator

import docker
import docker.errors
import pytest

from lib.daemon import Client, Daemon


@pytest.fixture
def sdk(daemon: Daemon, gantry: Client) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=daemon.host, version="auto")
    yield client
    client.close()


def test_run_and_logs(sdk: docker.DockerClient) -> None:
    assert sdk.ping() is True
    assert sdk.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as failed:
        sdk.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 4"], remove=True)
    assert failed.value.exit_status == 4
    assert failed.value.stderr == b"bad\n"


def test_life(sdk: docker.DockerClient) -> None:
    container = sdk.containers.run(
        "busybox", ["sleep", "60"], detach=True, labels={"kind": "sdk"}, environment={"A": "b"}
    )
    try:
        assert [found.id for found in sdk.containers.list(filters={"label": "kind=sdk"})] == [container.id]
        assert container.exec_run(["sh", "-c", "echo $A; echo err >&2; exit 2"], demux=True) == (2, (b"b\n", b"err\n"))
        assert "sleep" in str(container.top())
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            entry = tarfile.TarInfo("sent")
            entry.size = 3
            archive.addfile(entry, io.BytesIO(b"abc"))
        assert container.put_archive("/tmp", data.getvalue()) is True
        chunks, stat = container.get_archive("/tmp/sent")
        assert stat["size"] == 3
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            extracted = archive.extractfile("sent")
            assert extracted is not None
            assert extracted.read() == b"abc"
        container.rename("sdk-renamed")
        container.reload()
        assert container.name == "sdk-renamed"
        container.stop(timeout=0)
        assert container.wait()["StatusCode"] == 137
    finally:
        container.remove(force=True)
    with pytest.raises(docker.errors.NotFound):
        sdk.containers.get(container.id)


@pytest.mark.usefixtures("builder")
def test_build(sdk: docker.DockerClient) -> None:
    dockerfile = io.BytesIO(b"FROM busybox\nRUN echo built > /f\nCMD cat /f\n")
    image, lines = sdk.images.build(fileobj=dockerfile, tag="sdk/built", rm=True)
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    assert sdk.containers.run("sdk/built", remove=True) == b"built\n"
    assert image.tags == ["sdk/built:latest"]
    sdk.images.remove("sdk/built", force=True)


def test_save_and_load(sdk: docker.DockerClient) -> None:
    image = sdk.images.get("busybox")
    image.tag("sdk/copy", "v1")
    data = b"".join(sdk.images.get("sdk/copy:v1").save(named="sdk/copy:v1"))
    sdk.images.remove("sdk/copy:v1")
    loaded = sdk.images.load(data)
    assert loaded[0].id == image.id
    assert "sdk/copy:v1" in loaded[0].tags
    sdk.images.remove("sdk/copy:v1")


def test_attach_socket(sdk: docker.DockerClient) -> None:
    container = sdk.containers.create("busybox", ["cat"], stdin_open=True, tty=False)
    try:
        socket = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        container.start()
        socket._sock.sendall(b"echoed\n")
        assert socket._sock.recv(8)[0] == 1
        assert socket._sock.recv(64) == b"echoed\n"
        socket._sock.close()
        socket.close()
    finally:
        container.remove(force=True)


def test_events_and_volumes(sdk: docker.DockerClient) -> None:
    volume = sdk.volumes.create("sdk-volume", labels={"a": "b"})
    sdk.containers.run("busybox", ["sh", "-c", "echo kept > /v/f"], volumes={"sdk-volume": {"bind": "/v"}}, remove=True)
    assert (
        sdk.containers.run("busybox", ["cat", "/v/f"], volumes={"sdk-volume": {"bind": "/v"}}, remove=True) == b"kept\n"
    )
    assert [found.name for found in sdk.volumes.list(filters={"label": "a=b"})] == ["sdk-volume"]
    volume.remove()
    assert {network.name for network in sdk.networks.list()} >= {"bridge", "host", "none"}
