"""conmon's command line and pipes, with small scripts in its place."""

import itertools
import os
import stat
from pathlib import Path

import pytest

from gantry.errors import Internal, Unavailable
from gantry.runtime import conmon
from gantry.runtime.conmon import Command, Conmon, RuntimeFailed


def command(directory: Path, **fields: object) -> Command:
    values: dict[str, object] = {
        "conmon": "/usr/bin/conmon",
        "runtime": "/usr/bin/crun",
        "runtime_args": ("--root=/r", "--x"),
        "container_id": "c" * 64,
        "unit_id": "u" * 64,
        "name": "web",
        "directory": directory,
    }
    return Command(**(values | fields))  # type: ignore[arg-type]


def pairs(arguments: list[str]) -> set[tuple[str, str]]:
    return set(itertools.pairwise(arguments))


def test_arguments_of_a_container(tmp_path: Path) -> None:
    found = command(tmp_path, log="/log/file", tty=True, stdin=True, leave_stdin_open=True).arguments()
    assert found[0] == "/usr/bin/conmon"
    assert {
        ("-c", "c" * 64), ("-u", "u" * 64), ("-l", "k8s-file:/log/file"), ("--runtime-arg", "--root=/r"),
        ("--runtime-arg", "--x"), ("--exit-dir", str(tmp_path)), ("-p", f"{tmp_path}/pidfile"),
    } <= pairs(found)  # fmt: skip
    assert {"-t", "-i", "--leave-stdin-open", "--full-attach", "--sync"} <= set(found)
    assert "-e" not in found


def test_arguments_of_an_exec(tmp_path: Path) -> None:
    found = command(tmp_path, process_file="/p.json", attach=True).arguments()
    assert ("--exec-process-spec", "/p.json") in pairs(found)
    assert {"-e", "--exec-attach"} <= set(found)
    assert ("-l", "none") in pairs(found)
    assert not {"-t", "-i"} & set(found)


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}


def script(directory: Path, text: str) -> str:
    path = directory / "conmon"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


async def answer(directory: Path, text: str) -> int:
    monitor = Conmon.launch(command(directory, conmon=script(directory, text)))
    try:
        return await monitor.process_id()
    finally:
        monitor.close()
        monitor.kill()


async def test_the_process_id(tmp_path: Path) -> None:
    assert (
        await answer(
            tmp_path,
            'printf "{\\"data\\": 42" >/proc/self/fd/$_OCI_SYNCPIPE; echo "}" >/proc/self/fd/$_OCI_SYNCPIPE; sleep 5',
        )
        == 42
    )


async def test_a_refusal_carries_the_runtimes_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match="no such thing"):
        await answer(
            tmp_path, 'echo "{\\"data\\": -1, \\"message\\": \\"no such thing\\"}" >/proc/self/fd/$_OCI_SYNCPIPE'
        )


async def test_a_monitor_that_ends_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed):
        await answer(tmp_path, "echo broken options >&2; exit 1")
    assert conmon.early_errors(tmp_path) == "broken options"


async def test_nonsense_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Internal, match="unreadable"):
        await answer(tmp_path, "echo hello >/proc/self/fd/$_OCI_SYNCPIPE")


async def test_an_exec_waits_twice(tmp_path: Path) -> None:
    text = (
        "dd bs=1 count=1 </proc/self/fd/$_OCI_STARTPIPE 2>/dev/null >/dev/null\n"
        'echo "{\\"data\\": 0}" >/proc/self/fd/$_OCI_ATTACHPIPE\n'
        "dd bs=1 count=1 </proc/self/fd/$_OCI_STARTPIPE 2>/dev/null >/dev/null\n"
        'echo "{\\"data\\": 7}" >/proc/self/fd/$_OCI_SYNCPIPE\n'
    )
    monitor = Conmon.launch(command(tmp_path, conmon=script(tmp_path, text), process_file="/p", attach=True))
    await monitor.attachable()
    monitor.go()
    assert await monitor.process_id() == 7
    monitor.close()
    monitor.kill()


def test_a_missing_program_leaks_nothing(tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(Unavailable, match="is conmon installed"):
        Conmon.launch(command(tmp_path, conmon="/no/such/conmon", process_file="/p", attach=True))
    assert descriptors() == before


def test_only_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_SECRET", "x")
    monitor = Conmon.launch(command(tmp_path, conmon=script(tmp_path, "env > env; exit"), temporary="/short"))
    monitor.process.wait()
    monitor.close()
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "_", "SHLVL", "OLDPWD"} == {"PATH", "LC_ALL", "TMPDIR", "_OCI_SYNCPIPE"}


def test_resize(tmp_path: Path) -> None:
    fifo = tmp_path / "ctl"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    conmon.resize(fifo, 24, 80)
    conmon.resize(fifo, 5000, 80)
    assert os.read(reader, 100) == b"1 24 80\n1 1000 80\n"
    os.close(reader)
    with pytest.raises(OSError):
        conmon.resize(fifo, 1, 1)
