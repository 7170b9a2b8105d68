"""The tar reader against Python's tarfile, and against what is broken or hostile."""

import io
import os
import shutil
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.oci.tar_reader import HEADER_LIMIT, TarReader
from lib.archives import hardlink, member, symlink, tar

names = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=120)
paths = st.lists(names, min_size=1, max_size=4).map("/".join).filter(lambda path: not path.endswith(" "))


class Dribble(io.RawIOBase):
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, self._step) if size >= 0 else self._step)


def entries(data: bytes, step: int = 1 << 20) -> list[tuple[str, str, int, bytes]]:
    reader = TarReader(Dribble(data, step))  # type: ignore[arg-type]
    return [(entry.name, entry.type, entry.mode, b"".join(reader.chunks())) for entry in reader]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(paths, st.binary(max_size=1500), st.integers(0, 0o7777)), max_size=6),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.sampled_from([100, 512, 1000, 1 << 20]),
)
def test_reads_what_tarfile_writes(files: list[tuple[str, bytes, int]], kind: int, step: int) -> None:
    data = tar(*(member(name, content, mode=mode) for name, content, mode in files), format=kind)
    assert entries(data, step) == [(name, "0", mode, content) for name, content, mode in files]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 4000), st.binary(max_size=20))
def test_garbage_never_does_worse_than_an_error(content: bytes, at: int, noise: bytes) -> None:
    data = bytearray(tar(member("a" * 130, content, pax_headers={"SCHILY.xattr.user.a": "b"}), member("b", content)))
    data[at : at + len(noise)] = noise
    with suppress(InvalidArgument):
        entries(bytes(data))


def test_skipping_and_partial_reading() -> None:
    data = tar(member("a", b"x" * 100_000), member("b", b"y" * 513), member("c", b"z"))
    reader = TarReader(io.BytesIO(data))
    found = []
    for entry in reader:
        if entry.name == "b":
            next(reader.chunks())
        elif entry.name == "c":
            found.append(reader.read(1))
    assert found == [b"z"]


def test_all_the_fields() -> None:
    data = tar(
        member(
            "f", b"1", uid=3_000_000, gid=4_000_000, mode=0o4755, mtime=1_700_000_000.25,
            pax_headers={"SCHILY.xattr.user.key": "value", "SCHILY.xattr.security.capability": "\udc80\x01"},
        ),
        symlink("l", "t" * 200),
        hardlink("h", "f"),
        member("c", type=tarfile.CHRTYPE, devmajor=5, devminor=1),
        member("p", type=tarfile.FIFOTYPE),
        member("d/", type=tarfile.DIRTYPE),
    )  # fmt: skip
    found = {entry.name: entry for entry in TarReader(io.BytesIO(data))}
    f = found["f"]
    assert (f.uid, f.gid, f.mode, f.mtime) == (3_000_000, 4_000_000, 0o4755, 1_700_000_000_250_000_000)
    assert f.xattrs == {"user.key": b"value", "security.capability": b"\x80\x01"}
    assert found["l"].link == "t" * 200
    assert (found["h"].type, found["h"].link) == ("1", "f")
    assert (found["c"].type, found["c"].major, found["c"].minor) == ("3", 5, 1)
    assert found["p"].type == "6"
    assert found["d/"].type == "5"


def test_a_directory_of_old_tars_is_a_file_with_a_slash() -> None:
    data = tar(member("old/", type=tarfile.AREGTYPE), format=tarfile.USTAR_FORMAT)
    assert [(name, kind) for name, kind, _, _ in entries(data)] == [("old/", "5")]


@pytest.mark.parametrize("style", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar(style: str, tmp_path: Path) -> None:
    if shutil.which("tar") is None:
        pytest.skip("needs GNU tar")
    source, made = tmp_path / "sparse", tmp_path / "s.tar"
    with source.open("wb") as file:
        for number in range(30):  # more pieces than fit into one header
            file.seek(number * 100_000)
            file.write(b"data%d" % number)
        file.truncate(5_000_000)
    options = ["--format=gnu"] if style == "gnu" else ["--format=pax", f"--sparse-version={style}"]
    subprocess.run(["tar", *options, "-S", "-cf", str(made), "-C", str(tmp_path), "sparse"], check=True)
    assert made.stat().st_size < 1_000_000
    with made.open("rb") as stream:
        reader = TarReader(stream)
        (entry,) = [entry for entry in reader if _copied(reader, tmp_path / "out")]
    assert (entry.name, entry.size) == ("sparse", 5_000_000)
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


def _copied(reader: TarReader, path: Path) -> bool:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        reader.copy(descriptor)
    finally:
        os.close(descriptor)
    return True


def test_a_header_that_is_too_large_is_not_read() -> None:
    data = bytearray(tar(member("x" * 300, b"")))
    size = b"%011o\0" % (HEADER_LIMIT + 1)
    data[124:136] = size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    with pytest.raises(InvalidArgument, match="header field too long"):
        entries(bytes(data))


@pytest.mark.parametrize("cut", [1, 100, 511, 513, 700, 1023])
def test_a_cut_archive(cut: int) -> None:
    data = tar(member("a", b"x" * 600))
    with pytest.raises(InvalidArgument, match="unexpected EOF"):
        entries(data[:cut])


def test_nothing_and_zeros_are_an_empty_archive() -> None:
    assert entries(b"") == []
    assert entries(bytes(1024)) == []
    with pytest.raises(InvalidArgument, match="invalid tar header"):
        entries(bytes(512) + b"x" * 512)


def test_a_nul_in_a_pax_name_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid tar header"):
        entries(tar(member("a", b"", pax_headers={"path": "a\0b"})))
