"""Process descriptors: a process is named without the danger of a reused number (pidfd_open(2))."""

import asyncio
import os
import select
import signal
from collections.abc import Callable


def start_time(pid: int) -> int:
    """When the process began, in clock ticks since boot: with the number it names a process. 0 where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The second field is the command in parentheses and may hold anything; the rest has no parenthesis.
    fields = text[text.rindex(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def open_verified(pid: int, started: int) -> int:
    """A descriptor of the process that has this number and start time; raises ProcessLookupError otherwise."""
    descriptor = os.pidfd_open(pid)
    if started and start_time(pid) != started:
        os.close(descriptor)
        raise ProcessLookupError(3, "No such process")
    return descriptor


def send_signal(pid: int, started: int, number: int) -> None:
    """Send a signal to exactly that process; raises ProcessLookupError where it has ended."""
    descriptor = open_verified(pid, started)
    try:
        signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def watch_exit(descriptor: int, ended: Callable[[], None]) -> Callable[[], None]:
    """Call `ended` once on the running loop when the process behind `descriptor` has ended.

    Closes the descriptor then, or when the returned function is called, which ends the watch.
    """
    loop = asyncio.get_running_loop()
    watching = True

    def stop() -> None:
        nonlocal watching
        if watching:
            watching = False
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def readable() -> None:
        stop()
        ended()

    loop.add_reader(descriptor, readable)
    return stop


async def wait_exit(pid: int, started: int = 0) -> None:
    """Return when the process has ended (at once where it has already)."""
    try:
        descriptor = open_verified(pid, started)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def wait_blocking(pid: int, started: int, seconds: float) -> bool:
    """Wait for a process's end without an event loop; whether it has ended in time."""
    try:
        descriptor = open_verified(pid, started)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(seconds * 1000))
    finally:
        os.close(descriptor)
