"""Processes: descriptors, start times, spawning, capabilities."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gantry.linux import capabilities, pidfd, process


def sleeper() -> "subprocess.Popen[bytes]":
    return process.spawn(["/bin/sleep", "60"], environment={}, directory=Path("/"))


def test_start_time_names_a_process() -> None:
    assert pidfd.start_time(os.getpid()) > 0
    assert pidfd.start_time(os.getpid()) == pidfd.start_time(os.getpid())
    assert pidfd.start_time(2**22 + 1) == 0


def test_a_reused_number_is_not_signalled() -> None:
    child = sleeper()
    try:
        started = pidfd.start_time(child.pid)
        with pytest.raises(ProcessLookupError):
            pidfd.send_signal(child.pid, started + 1, signal.SIGKILL)
        assert child.poll() is None
        pidfd.send_signal(child.pid, started, signal.SIGTERM)
        assert child.wait(5) == -signal.SIGTERM
    finally:
        child.kill()
        child.wait()


def test_a_zombie_has_ended() -> None:
    child = sleeper()
    child.kill()
    assert pidfd.wait_blocking(child.pid, 0, 5)
    assert pidfd.start_time(child.pid) == 0
    child.wait()


async def test_waiting_without_polling() -> None:
    child = sleeper()
    started = pidfd.start_time(child.pid)
    ended = asyncio.Event()
    pidfd.watch_exit(pidfd.open_verified(child.pid, started), ended.set)
    waiting = asyncio.get_running_loop().create_task(pidfd.wait_exit(child.pid, started))
    await asyncio.sleep(0)
    assert not ended.is_set()
    child.kill()
    async with asyncio.timeout(5):
        await ended.wait()
        await waiting
    child.wait()
    await pidfd.wait_exit(child.pid, started)


async def test_a_watch_that_is_stopped_stays_silent() -> None:
    child = sleeper()
    ended = asyncio.Event()
    stop = pidfd.watch_exit(pidfd.open_verified(child.pid, 0), ended.set)
    stop()
    stop()
    child.kill()
    child.wait()
    await asyncio.sleep(0.02)
    assert not ended.is_set()


def test_spawn_passes_only_what_is_named(tmp_path: Path) -> None:
    kept, other = os.pipe()
    hidden = os.dup(other)
    os.set_inheritable(hidden, True)
    script = (
        "import os, sys\n"
        "def there(number):\n"
        "    try: os.fstat(number); return True\n"
        "    except OSError: return False\n"
        f"found = [there({other}), there({hidden}), os.getcwd(), os.environ.get('ONLY'), 'PATH' in os.environ]\n"
        "sys.stderr.write(repr(found))\n"
    )
    with (tmp_path / "out").open("wb") as out:
        child = process.spawn(
            [sys.executable, "-S", "-E", "-c", script],
            environment={"ONLY": "this"},
            directory=tmp_path,
            keep=[other],
            stderr=out.fileno(),
        )
        assert os.getsid(child.pid) == child.pid
        assert child.wait(20) == 0
    for descriptor in (kept, other, hidden):
        os.close(descriptor)
    assert (tmp_path / "out").read_text() == repr([True, False, str(tmp_path), "this", False])


def test_run_gives_status_and_output() -> None:
    done = process.run(["/bin/sh", "-c", "cat; echo err >&2; exit 3"], data=b"in")
    assert (done.code, done.stdout, done.stderr) == (3, b"in", b"err\n")


def test_run_does_not_hand_our_environment_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "token")
    assert b"SECRET" not in process.run(["/usr/bin/env"]).stdout


def test_find_program() -> None:
    assert process.find_program("sh").endswith("/sh")
    assert process.find_program("/bin/sh") == "/bin/sh"
    assert process.find_program("no-such-program-here") == ""
    assert process.find_program("/no/such") == ""


def test_limit_values() -> None:
    assert process.limit_value(-1) == 2**64 - 1
    assert process.limit_value(5) == 5


def test_capability_names_are_in_the_kernels_order() -> None:
    assert capabilities.NAMES[0] == "CAP_CHOWN"
    assert capabilities.NAMES[21] == "CAP_SYS_ADMIN"
    assert capabilities.NAMES[40] == "CAP_CHECKPOINT_RESTORE"
    assert len(capabilities.NAMES) == 41
    assert capabilities.names_of(0b101) == ("CAP_CHOWN", "CAP_DAC_READ_SEARCH")
    assert set(capabilities.own_bounding_set()) <= set(capabilities.NAMES)
