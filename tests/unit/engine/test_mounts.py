"""`-v`, `--mount` and the image's volumes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.engine.mounts import parse_bind, parse_mount, requested_mounts
from gantry.errors import InvalidArgument
from gantry.model.container import BindOptions, ContainerConfig, HostConfig, MountRequest, TmpfsOptions


def test_binds() -> None:
    bind = parse_bind("/src/../host:/in/:ro,rslave")
    assert (bind.type, bind.source, bind.destination) == ("bind", "/host", "/in")
    assert (bind.read_write, bind.propagation) == (False, "rslave")
    named = parse_bind("data:/in:nocopy")
    assert (named.type, named.name, named.no_copy, named.anonymous) == ("volume", "data", True, False)
    assert parse_bind("/only").anonymous


@pytest.mark.parametrize(
    "text", ["", ":", "a:b:c:d", "/a:relative", "/a:/", "/a:/b:rw,ro", "/a:/b:what", "bad name:/x", "/a:/b:z,Z"]
)
def test_bad_binds(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_bind(text)


@given(st.text())
def test_binds_raise_only_their_own_error(text: str) -> None:
    try:
        assert parse_bind(text).destination.startswith("/")
    except InvalidArgument:
        return


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (MountRequest("bind", target="/x"), 'invalid mount config for type "bind": field Source must not be empty'),
        (MountRequest("bind", "/a"), 'invalid mount config for type "bind": field Target must not be empty'),
        (
            MountRequest("tmpfs", "/a", "/b"),
            'invalid mount config for type "tmpfs": field Source must not be specified',
        ),
        (MountRequest("odd", "/a", "/b"), 'invalid mount config for type "odd": mount type unknown'),
    ],
)
def test_bad_mounts(request_: MountRequest, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_mount(request_)
    assert raised.value.message == message


def test_mount_options() -> None:
    tmpfs = parse_mount(MountRequest("tmpfs", target="/t", tmpfs_options=TmpfsOptions(size_bytes=4096, mode=0o1770)))
    assert tmpfs.options == ("size=4096", "mode=1770")
    bind = parse_mount(MountRequest("bind", "/a", "/b", bind_options=BindOptions(create_mountpoint=True)))
    assert "create" in bind.options


def test_an_image_volume_gives_way_to_what_was_asked_for() -> None:
    config = ContainerConfig(volumes={"/data": {}, "/other": {}})
    found = {mount.destination: mount for mount in requested_mounts(config, HostConfig(binds=["/host:/data"]), [])}
    assert found["/data"].type == "bind"
    assert found["/other"].anonymous


def test_the_same_place_twice_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        requested_mounts(ContainerConfig(), HostConfig(binds=["/a:/x", "/b:/x"]), [])
