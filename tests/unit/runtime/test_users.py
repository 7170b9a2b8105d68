"""Users against a container's passwd and group, hostile ones included."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.runtime.users import ResolvedUser, resolve, resolve_from

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nme:x:1000:1001::/home/me:/bin/sh\nnohome:x:7:7\n5:x:77:77::/five:\n"
GROUP = b"root:x:0:\nwheel:x:10:me,other\nstaff:x:50:me\nmine:x:1001:\n"


def who(user: str, groups: tuple[str, ...] = ()) -> ResolvedUser:
    return resolve_from(lambda: PASSWD, lambda: GROUP, user, groups)


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("", (), ResolvedUser(0, 0, (0,), "/root")),
        ("root", (), ResolvedUser(0, 0, (0,), "/root")),
        ("me", (), ResolvedUser(1000, 1001, (1001, 10, 50), "/home/me")),
        ("1000", (), ResolvedUser(1000, 1001, (1001, 10, 50), "/home/me")),
        ("me:staff", (), ResolvedUser(1000, 50, (50,), "/home/me")),
        ("me:999", (), ResolvedUser(1000, 999, (999,), "/home/me")),
        ("1234", (), ResolvedUser(1234, 0, (0,), "/")),
        ("1234:5678", (), ResolvedUser(1234, 5678, (5678,), "/")),
        ("5", (), ResolvedUser(5, 0, (0,), "/")),  # a number is never a name
        ("nohome", (), ResolvedUser(7, 7, (7,), "/")),
        ("me", ("wheel", "123"), ResolvedUser(1000, 1001, (1001, 10, 50, 123), "/home/me")),
        ("me:", (), ResolvedUser(1000, 1001, (1001, 10, 50), "/home/me")),
    ],
)
def test_resolution(user: str, groups: tuple[str, ...], expected: ResolvedUser) -> None:
    assert who(user, groups) == expected


@pytest.mark.parametrize(
    ("user", "groups", "message"),
    [
        ("ghost", (), "unable to find user ghost: no matching entries in passwd file"),
        ("me:ghosts", (), "unable to find group ghosts: no matching entries in group file"),
        ("me", ("ghosts",), "unable to find group ghosts: no matching entries in group file"),
        ("99999999999", (), "uids and gids must be in range 0-2147483647"),
        ("-1", (), "uids and gids must be in range 0-2147483647"),
        ("0:2147483648", (), "uids and gids must be in range 0-2147483647"),
    ],
)
def test_refusals(user: str, groups: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        who(user, groups)
    assert refused.value.message == message


def test_a_line_with_a_bad_number_is_no_entry() -> None:
    """Were it read as zero, its name would be root."""
    passwd = b"evil:x:abc:def::/:\nevil2:x:-1:0::/:\n"
    for name in ("evil", "evil2"):
        with pytest.raises(InvalidArgument, match="unable to find user"):
            resolve_from(lambda: passwd, lambda: b"", name)


@settings(deadline=None)
@given(
    st.binary(max_size=200), st.binary(max_size=200), st.text(max_size=12), st.lists(st.text(max_size=6), max_size=2)
)
def test_any_content_gives_numbers_or_a_refusal(passwd: bytes, group: bytes, user: str, groups: list[str]) -> None:
    try:
        found = resolve_from(lambda: passwd, lambda: group, user, groups)
    except InvalidArgument:
        return
    assert all(0 <= number < 2**31 for number in (found.uid, found.gid, *found.groups))
    assert found.groups[0] == found.gid


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("thief:x:0:0::/:\n")
    path = tmp_path / "root"
    (path / "etc").mkdir(parents=True)
    return path


def test_files_are_read_inside_the_root(root: Path) -> None:
    (root / "etc" / "passwd").write_bytes(PASSWD)
    assert resolve(root, "me").uid == 1000


@pytest.mark.parametrize("target", ["../../outside", "/../outside", "../../../../../../outside"])
def test_a_link_cannot_leave_the_root(root: Path, target: str) -> None:
    (root / "etc" / "passwd").symlink_to(target)
    with pytest.raises(InvalidArgument):
        resolve(root, "thief")


def test_an_absolute_link_is_inside(root: Path) -> None:
    (root / "etc" / "real").write_bytes(PASSWD)
    (root / "etc" / "passwd").symlink_to("/etc/real")
    assert resolve(root, "me").home == "/home/me"


def test_special_files_are_never_opened(root: Path) -> None:
    os.mkfifo(root / "etc" / "passwd")
    (root / "etc" / "group").mkdir()
    assert resolve(root, "").uid == 0
    with pytest.raises(InvalidArgument):
        resolve(root, "root")


def test_a_file_without_end_is_not_read(root: Path) -> None:
    with (root / "etc" / "passwd").open("wb") as file:
        file.write(PASSWD)
        file.truncate(1 << 40)  # sparse
    with pytest.raises(InvalidArgument):
        resolve(root, "me")
