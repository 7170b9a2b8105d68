"""Layers onto directories and back: what is written, what is hidden, what is refused."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.oci.diff import changes, write_layer
from gantry.oci.layer import apply_layer
from gantry.oci.overlay import OPAQUE_XATTR, is_opaque, is_whiteout
from gantry.oci.tree import clean_name
from lib.archives import Member, directory, hardlink, member, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted attributes need root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def archived(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def apply(root: Path, *members: Member, lower: tuple[Path, ...] = ()) -> int:
    return apply_layer(io.BytesIO(tar(*members)), root, lower)


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything that makes up a tree, but for the link count's inode numbers."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        content: object = None
        if kind == stat.S_IFREG:
            content = path.read_bytes()
        elif kind == stat.S_IFLNK:
            content = str(path.readlink())
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            content = status.st_rdev
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        mode = 0 if kind == stat.S_IFLNK else status.st_mode & 0o7777
        links = status.st_nlink if kind == stat.S_IFREG else 0
        found[str(path.relative_to(root))] = (
            kind, mode, status.st_uid, status.st_gid, int(status.st_mtime), content, links, sorted(xattrs.items()),
        )  # fmt: skip
    return found


def test_every_kind_of_entry(root: Path) -> None:
    size = apply(
        root,
        directory("d", mode=0o1750, uid=1, gid=2, mtime=1_000_000_000),
        member("d/f", b"hello", mode=0o4755, uid=3, gid=4, pax_headers={"SCHILY.xattr.user.k": "v"}),
        hardlink("d/h", "d/f"),
        symlink("d/s", "/absolute"),
        member("d/fifo", type=tarfile.FIFOTYPE, mode=0o600),
        member("d/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    )
    assert size == 5 + len("/absolute")
    d, f = (root / "d").stat(), (root / "d/f").stat()
    assert (stat.S_IMODE(d.st_mode), d.st_uid, d.st_gid, d.st_mtime) == (0o1750, 1, 2, 1_000_000_000)
    assert (stat.S_IMODE(f.st_mode), f.st_uid, f.st_gid, f.st_nlink) == (0o4755, 3, 4, 2)
    assert f.st_mtime == 1_700_000_000
    assert os.getxattr(root / "d/f", "user.k") == b"v"
    assert str((root / "d/s").readlink()) == "/absolute"
    assert stat.S_ISFIFO((root / "d/fifo").lstat().st_mode)
    assert (root / "d/null").lstat().st_rdev == os.makedev(1, 3)


def test_the_last_entry_of_a_name_wins(root: Path) -> None:
    apply(
        root,
        member("a", b"old"), member("a", b"new"),
        directory("b"), member("b/x", b"1"), member("b", b"file now"),
        symlink("c", "/etc"), directory("c"), member("c/passwd", b"mine"),
    )  # fmt: skip
    assert (root / "a").read_bytes() == b"new"
    assert (root / "b").read_bytes() == b"file now"
    assert (root / "c/passwd").read_bytes() == b"mine"


def test_missing_parents_are_made_as_below(tmp_path: Path, root: Path) -> None:
    lower = tmp_path / "lower"
    (lower / "var/tmp").mkdir(parents=True)
    (lower / "var/tmp").chmod(0o1777)
    os.chown(lower / "var", 7, 8)
    apply(root, member("var/tmp/f", b""), member("new/f", b""), lower=(lower,))
    assert stat.S_IMODE((root / "var/tmp").stat().st_mode) == 0o1777
    assert ((root / "var").stat().st_uid, (root / "var").stat().st_gid) == (7, 8)
    assert stat.S_IMODE((root / "new").stat().st_mode) == 0o755


def test_whiteouts(tmp_path: Path, root: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    apply(
        root,
        member(".wh.gone"),
        directory("opaque"), member("opaque/.wh..wh..opq"), member("opaque/kept", b"1"),
        member(".wh.replaced"), directory("replaced"), member("replaced/x", b""),
        directory("after"), member(".wh.after"),
        member("file", b"1"), member(".wh.file"),
        member(".wh..wh.plnk"),
        lower=(lower,),
    )  # fmt: skip
    assert is_whiteout((root / "gone").lstat())
    assert is_opaque(str(root / "opaque"))
    assert (root / "opaque/kept").exists()
    assert is_opaque(str(root / "replaced"))
    assert (root / "replaced/x").exists()
    assert is_opaque(str(root / "after"))
    assert (root / "file").read_bytes() == b"1"
    assert names(root) == ["after", "file", "gone", "opaque", "replaced"]


def test_the_lowest_layer_hides_nothing(root: Path) -> None:
    apply(root, member(".wh.gone"), directory("d"), member("d/.wh..wh..opq"))
    assert names(root) == ["d"]
    assert not is_opaque(str(root / "d"))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../escaped", b"x")], 'invalid entry name "../escaped"'),
        ([member("a/../../escaped", b"x")], 'invalid entry name "a/../../escaped"'),
        ([symlink("out", "../../.."), member("out/escaped", b"x")], "path escapes from parent"),
        ([symlink("out", "/"), member("out/escaped", b"x")], "path escapes from parent"),
        ([hardlink("h", "../../etc/passwd")], 'invalid hardlink target "../../etc/passwd"'),
        ([symlink("out", "/etc"), hardlink("h", "out/passwd")], "path escapes from parent"),
        ([hardlink("h", "missing")], "linkat missing h: no such file or directory"),
        ([member("f", b""), member("f/x", b"")], "not a directory"),
        ([member("x" * 300, b"")], "file name too long"),
        ([member(".wh...", b"")], "invalid entry name"),
        ([member(".wh..", b"")], "invalid entry name"),
        ([member("d/.wh...", b"")], "invalid entry name"),
        ([member("z", type=b"Z")], "unhandled tar header type 90"),
    ],
)
def test_what_is_hostile_is_refused(tmp_path: Path, root: Path, members: list[Member], message: str) -> None:
    (tmp_path / "sibling").mkdir()
    lower = tmp_path / "lower"
    lower.mkdir()
    with pytest.raises(InvalidArgument) as caught:
        apply(root, *members, lower=(lower,))
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert not (tmp_path / "escaped").exists()
    assert not (Path("/") / "escaped").exists()
    assert names(tmp_path) == ["lower", "root", "sibling"]


def test_an_absolute_name_is_inside(root: Path) -> None:
    apply(root, member("/etc/x", b"1"))
    assert (root / "etc/x").read_bytes() == b"1"


def test_overlays_own_marks_are_not_taken_from_a_layer(root: Path) -> None:
    apply(
        root,
        directory("d", pax_headers={"SCHILY.xattr." + OPAQUE_XATTR: "y", "SCHILY.xattr.user.overlay.opaque": "y"}),
        member("f", b"", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"}),
    )
    assert os.listxattr(root / "d") == []
    assert os.listxattr(root / "f") == []


def test_a_write_through_a_link_does_not_touch_its_target(root: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    apply(root, symlink("l", str(victim)), member("l", b"mine"))
    assert victim.read_text() == "untouched"
    assert (root / "l").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("./a/", "a"),
        (".", ""),
        ("./", ""),
        ("/", ""),
        ("a//b/./c", "a/b/c"),
        ("a/../b", "b"),
        ("..a", "..a"),
        ("a/b..", "a/b.."),
    ],
)
def test_clean_names(name: str, clean: str) -> None:
    assert clean_name(name) == clean


# ------------------------------------------------------------------------------- random trees, there and back

part = st.sampled_from(["a", "b", "c", "dir", "é", "x" * 60, "y" * 110])
attributes = st.fixed_dictionaries(
    {"mode": st.sampled_from([0o644, 0o755, 0o4755, 0o1777, 0o000]), "uid": st.sampled_from([0, 1000, 3_000_000])}
)


@st.composite
def trees(draw: st.DrawFn) -> list[Member]:
    """Members whose parents are directories."""
    made: dict[str, Member] = {}
    directories = [""]
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from(directories))
        name = f"{parent}/{draw(part)}" if parent else draw(part)
        if name in made:
            continue
        kind = draw(st.sampled_from(["file", "directory", "symlink", "fifo", "device", "hardlink"]))
        fields = draw(attributes)
        files = [known for known, (info, _) in made.items() if info.isreg()]
        if kind == "directory":
            made[name] = directory(name, **fields)
            directories.append(name)
        elif kind == "symlink":
            made[name] = symlink(name, draw(st.sampled_from(["/etc/passwd", "../..", "t" * 150])))
        elif kind == "fifo":
            made[name] = member(name, type=tarfile.FIFOTYPE, **fields)
        elif kind == "device":
            made[name] = member(name, type=tarfile.CHRTYPE, devmajor=1, devminor=3, **fields)
        elif kind == "hardlink" and files:
            made[name] = hardlink(name, draw(st.sampled_from(files)))
        else:
            xattrs = {"SCHILY.xattr.user.k": "v"} if draw(st.booleans()) else {}
            made[name] = member(name, draw(st.binary(max_size=2000)), pax_headers=xattrs, **fields)
    return list(made.values())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=trees())
def test_a_tree_is_the_same_after_tar_and_apply(
    members: list[Member], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("trees")
    first, second = base / "first", base / "second"
    first.mkdir()
    second.mkdir()
    apply(first, *members)
    out = io.BytesIO()
    size = write_layer(first, (), out)
    assert size == len(out.getvalue())
    out.seek(0)
    apply_layer(out, second)
    assert tree(second) == tree(first)
    assert sorted(name.rstrip("/") for name in archived(out.getvalue())) == sorted(tree(first))


def test_changes_against_a_lower_layer(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    lower.mkdir()
    upper.mkdir()
    apply(lower, directory("etc"), member("etc/a", b"1"), member("etc/b", b"1"), directory("old"), member("old/x", b""))
    apply(upper, directory("etc"), member("etc/a", b"2"), member("etc/.wh.b"), member("new", b""), lower=(lower,))
    apply(upper, directory("old"), member("old/.wh..wh..opq"), member("old/y", b""), lower=(lower,))
    os.mknod(upper / "never-there", stat.S_IFCHR, 0)
    assert [(change.kind, change.path) for change in changes(upper, (lower,))] == [
        (0, "/etc"), (0, "/etc/a"), (2, "/etc/b"), (1, "/new"), (0, "/old"), (1, "/old/y"),
    ]  # fmt: skip
    out = io.BytesIO()
    write_layer(upper, (lower,), out)
    assert archived(out.getvalue()) == ["etc", "etc/a", "etc/.wh.b", "new", "old", "old/.wh..wh..opq", "old/y"]


def test_a_runtimes_stubs_are_no_changes(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    lower.mkdir()
    upper.mkdir()
    apply(lower, directory("etc"))
    (upper / "etc").mkdir()
    (upper / "etc/hosts").touch()
    (upper / "etc/mtab").symlink_to("/proc/mounts")
    (upper / "dev/pts").mkdir(parents=True)
    (upper / "proc").mkdir()
    assert changes(upper, (lower,)) == []
    (upper / "etc/hosts").write_text("written by the container")
    (upper / "dev/mine").touch()
    assert [change.path for change in changes(upper, (lower,))] == ["/dev", "/dev/mine", "/etc", "/etc/hosts"]


def test_a_changed_directory_alone(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    lower.mkdir()
    upper.mkdir()
    apply(lower, directory("d"), directory("same"))
    apply(upper, directory("d", mode=0o700), directory("same"))
    assert [(change.kind, change.path) for change in changes(upper, (lower,))] == [(0, "/d")]
