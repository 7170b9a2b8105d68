"""Ids and mounts under `userns-remap`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.model.container import HostConfig
from gantry.model.remap import OVERFLOW_ID, Remap, refusal
from gantry.model.task import Mount

REMAP = Remap(100_000, 65_536, 200_000, 65_536, "/run/g/userns/namespace", "/var/lib/g", "/run/g/userns/view")


@given(st.integers(0, 65_535), st.integers(0, 65_535))
def test_ids_come_back(uid: int, gid: int) -> None:
    assert REMAP.to_host(uid, gid) == (100_000 + uid, 200_000 + gid)
    assert REMAP.to_container(*REMAP.to_host(uid, gid)) == (uid, gid)


@given(st.integers(0, 1 << 32), st.integers(0, 1 << 32))
def test_every_id_of_an_archive_stays_inside_the_range(uid: int, gid: int) -> None:
    host_uid, host_gid = REMAP.to_host(uid, gid)
    assert 100_000 <= host_uid < 165_536
    assert 200_000 <= host_gid < 265_536


def test_ids_of_others_are_nobodys() -> None:
    assert REMAP.to_container(0, 0) == (OVERFLOW_ID, OVERFLOW_ID)
    assert REMAP.to_container(165_536, 199_999) == (OVERFLOW_ID, OVERFLOW_ID)
    small = Remap(10, 5, 10, 5)
    assert small.to_host(70_000, 4) == (14, 14)


def test_layers_are_taken_from_the_view() -> None:
    options = (
        "lowerdir=/var/lib/g/snapshots/2/fs:/var/lib/g/snapshots/1/fs:/var/lib/gx:/else/var/lib/g/x",
        "upperdir=/var/lib/g/snapshots/3/fs", "workdir=/var/lib/g/snapshots/3/work", "index=off", "ro",
    )  # fmt: skip
    (shifted,) = REMAP.shifted((Mount("overlay", "overlay", options=options),))
    view = "/run/g/userns/view/snapshots"
    assert shifted.options == (
        f"lowerdir={view}/2/fs:{view}/1/fs:/var/lib/gx:/else/var/lib/g/x",
        f"upperdir={view}/3/fs", f"workdir={view}/3/work", "index=off", "ro",
    )  # fmt: skip


def test_paths_with_colons_and_commas_are_escaped_as_overlay_wants_it() -> None:
    odd = Remap(1, 2, 1, 2, "n", "/a:b,c", "/v:1,2")
    options = (r"lowerdir=/a\:b\,c/2:/a\:b\,c/1", r"upperdir=/a:b\,c/3")
    (shifted,) = odd.shifted((Mount("overlay", "overlay", options=options),))
    assert shifted.options == (r"lowerdir=/v\:1\,2/2:/v\:1\,2/1", r"upperdir=/v:1\,2/3")
    inside = (r"lowerdir=/x\:/a\:b\,c/2",)  # the colon belongs to the path, which is not the data root's
    assert odd.shifted((Mount("overlay", "overlay", options=inside),))[0].options == inside


def test_binds_are_taken_from_the_view_and_others_stay() -> None:
    bind, other = Mount("bind", "/var/lib/g/snapshots/1/fs", "/x", ("ro",)), Mount("bind", "/home/x", "/y")
    assert REMAP.shifted((bind, other)) == (Mount("bind", "/run/g/userns/view/snapshots/1/fs", "/x", ("ro",)), other)


def test_userns_host_has_no_mapping() -> None:
    assert REMAP.of(HostConfig()) is REMAP
    assert REMAP.of(HostConfig(userns_mode="host")) is None


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (HostConfig(privileged=True), "privileged mode is incompatible with user namespaces.  You must run"),
        (HostConfig(network_mode="host"), "cannot share the host's network namespace when user namespaces are enabled"),
        (HostConfig(pid_mode="host"), "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_what_needs_the_hosts_user_namespace_is_refused(host: HostConfig, words: str) -> None:
    import msgspec

    assert refusal(host).startswith(words)
    assert refusal(msgspec.structs.replace(host, userns_mode="host")) == ""


def test_all_else_is_not_refused() -> None:
    assert refusal(HostConfig(network_mode="none", ipc_mode="host", pid_mode="container:x")) == ""
