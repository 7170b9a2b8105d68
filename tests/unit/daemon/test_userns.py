"""`userns-remap`: users and their subordinate ids."""

import grp
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.daemon import userns
from gantry.errors import InvalidArgument, Unavailable
from gantry.model.instance import Instance


def test_the_first_range_counts(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("# ids\nother:1:2\nme:100000:0\nme:300000:65536\nme:500000:10\nbroken:x:1\n\nme:1\n")
    assert userns.subordinate_range(file, "me") == (300_000, 65_536)
    with pytest.raises(InvalidArgument, match='no subuid ranges found for user "nobody"'):
        userns.subordinate_range(file, "nobody")
    with pytest.raises(InvalidArgument, match='no subgid ranges found for group "me"'):
        userns.subordinate_range(tmp_path / "subgid", "me")


@given(st.text(max_size=200))
def test_any_file_is_read(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("s") / "subuid"
    file.write_text(text, "utf-8")
    assert all(first >= 0 and count >= 0 for _, first, count in userns.read_ranges(file))


def test_users_by_name_and_number() -> None:
    user = next((each for each in pwd.getpwall() if each.pw_uid and _group(each.pw_name)), None)
    if user is None:
        pytest.skip("no user on this machine has a group of the same name")
    group = grp.getgrnam(user.pw_name)
    assert userns.find_user(user.pw_name) == (user.pw_name, group.gr_name)
    assert userns.find_user(str(user.pw_uid)) == (user.pw_name, group.gr_name)
    assert userns.find_user(f"{user.pw_uid}:{group.gr_gid}") == (user.pw_name, group.gr_name)
    assert userns.find_user(f"{user.pw_name}:root") == (user.pw_name, "root")


def _group(name: str) -> bool:
    return any(each.gr_name == name for each in grp.getgrall())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("gantry-nobody-has-this", "cannot find user gantry-nobody-has-this"),
        ("4294967294000", "cannot find user"),
        ("root", "cannot be mapped to root itself"),
        ("0:0", "cannot be mapped to root itself"),
        (":x", "invalid user/group specification"),
        ("a:", "invalid user/group specification"),
        ("a:b:c", "invalid user/group specification"),
        ("default:x", "invalid user/group specification"),
    ],
)
def test_wrong_users_are_refused(value: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        userns.find_user(value)


def test_an_old_kernel_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userns, "kernel_version", lambda: (5, 15))
    with pytest.raises(Unavailable, match=r"needs Linux 5\.19 or newer .* this is 5\.15"):
        userns.prepare("default", Instance.of(tmp_path, tmp_path))


def test_without_the_option_nothing_is_done(tmp_path: Path) -> None:
    assert userns.prepare("", Instance.of(tmp_path, tmp_path)) is None
    assert not list(tmp_path.iterdir())
