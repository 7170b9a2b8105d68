"""Option lists of mounts, and the parser of mountinfo."""

import os
from pathlib import Path

import pytest

from gantry.linux import mount as mounts
from gantry.linux.mount import MountOptions, is_mounted, mount, parse_options
from gantry.model.task import Mount


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), MountOptions(0, 0, "")),
        (("ro", "nosuid", "nodev"), MountOptions(1 | 2 | 4, 0, "")),
        (("ro", "rw"), MountOptions(0, 0, "")),
        (("noexec", "exec", "noexec"), MountOptions(8, 0, "")),
        (("rbind", "rslave"), MountOptions(4096 | 16384, (1 << 19) | 16384, "")),
        (("lowerdir=/a:/b", "upperdir=/c", "ro"), MountOptions(1, 0, "lowerdir=/a:/b,upperdir=/c")),
        (("defaults", "", "size=64k"), MountOptions(0, 0, "size=64k")),
    ],
)
def test_options(options: tuple[str, ...], expected: MountOptions) -> None:
    assert parse_options(options) == expected


def test_escapes_of_mountinfo() -> None:
    assert mounts._unescape(r"/with\040space\134and\011tab") == "/with space\\and\ttab"


def test_is_mounted() -> None:
    assert is_mounted(Path("/proc"))
    assert not is_mounted(Path("/proc/self"))


def test_is_mounted_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to("/")
    assert is_mounted(tmp_path / "root" / "proc")


def test_an_error_names_both_paths(tmp_path: Path) -> None:
    with pytest.raises(OSError) as failed:
        mount(Mount("nosuchfs", "nothing"), tmp_path / "absent")
    assert failed.value.filename == "nothing"
    assert failed.value.filename2 == os.fspath(tmp_path / "absent")


def test_many_overlay_layers_get_short_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a page of options is written relative to the common directory, in a thread that ends."""
    seen: list[tuple[str, str]] = []

    def raw(source: str, target: Path, kind: str, flags: int, data: str) -> None:
        seen.append((str(Path.cwd()), data))

    monkeypatch.setattr(mounts, "mount_raw", raw)
    monkeypatch.setattr(mounts, "unshare", lambda flags: None)
    before = Path.cwd()
    layers = [tmp_path / f"{i:03d}" / ("x" * 60) for i in range(60)]
    for layer in layers:
        layer.mkdir(parents=True)
    try:
        mount(
            Mount(
                "overlay",
                "overlay",
                options=("lowerdir=" + ":".join(map(str, layers[2:])), f"upperdir={layers[0]}", f"workdir={layers[1]}"),
            ),
            tmp_path / "target",
        )
    finally:
        os.chdir(before)  # without unshare the thread shares our directory
    directory, data = seen[0]
    assert directory == str(tmp_path)
    assert data.split(",")[1] == f"upperdir=000/{'x' * 60}"
    assert len(data.split(",")[0].split(":")) == 58
