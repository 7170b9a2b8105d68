"""What every `ports.Runtime` does, whatever is behind it. A subclass gives the `runtime` and `spec` fixtures.

The containers of this suite run `sh -c …` with echo, cat, sleep, exit and trap: no more is expected of a fake.
"""

import asyncio
import signal
from collections.abc import Callable
from typing import Protocol

import pytest

from gantry.errors import Conflict, GantryError, NotFound
from gantry.model.task import ExecSpec, ProcessSpec, TaskSpec
from gantry.ports import AttachStream, Runtime, TaskFacts, TaskStreams


class FullRuntime(Runtime, TaskStreams, TaskFacts, Protocol):
    """The three protocols that one object serves."""


Make = Callable[..., TaskSpec]
UNKNOWN = "0" * 64


async def output(stream: AttachStream) -> dict[int, bytes]:
    found = {1: b"", 2: b""}
    async for number, data in stream:
        found[number] += data
    return found


async def run(runtime: FullRuntime, spec: TaskSpec, data: bytes | None = None) -> tuple[int, dict[int, bytes]]:
    """Create, attach, start, feed, wait, delete."""
    await runtime.create(spec)
    stream = await runtime.attach(spec.id, stdin=data is not None)
    await runtime.start(spec.id)
    if data is not None:
        await stream.write(data)
        await stream.close_stdin()
    found = await output(stream)
    status = await runtime.wait(spec.id)
    await runtime.delete(spec.id)
    return status.code, found


class RuntimeSuite:
    async def test_life(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "sleep 1000")
        assert await runtime.state(asked.id) is None
        created = await runtime.create(asked)
        assert (created.phase, created.pid > 0) == ("created", True)
        assert asked.id in runtime.ids()
        await runtime.start(asked.id)
        state = await runtime.state(asked.id)
        assert state is not None
        assert (state.phase, state.pid) == ("running", created.pid)
        assert created.pid in await runtime.pids(asked.id)
        assert runtime.root(asked.id) is not None
        await runtime.kill(asked.id, signal.SIGKILL)
        status = await runtime.wait(asked.id)
        assert status.code == 137
        assert status.at > 0
        state = await runtime.state(asked.id)
        assert state is not None
        assert (state.phase, state.pid, state.exit) == ("stopped", 0, status)
        assert runtime.root(asked.id) is None
        await runtime.delete(asked.id)
        assert await runtime.state(asked.id) is None
        assert asked.id not in runtime.ids()

    async def test_exit_code_and_both_streams(self, runtime: FullRuntime, spec: Make) -> None:
        code, found = await run(runtime, spec("sh", "-c", "echo out; echo err >&2; exit 7"))
        assert (code, found) == (7, {1: b"out\n", 2: b"err\n"})

    async def test_waiting_before_and_after_the_end(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "exit 3")
        await runtime.create(asked)
        waits = [asyncio.ensure_future(runtime.wait(asked.id)) for _ in range(3)]  # noqa: TID251
        await runtime.start(asked.id)
        assert {status.code for status in await asyncio.gather(*waits)} == {3}
        assert (await runtime.wait(asked.id)).code == 3
        await runtime.delete(asked.id)

    async def test_stdin_ends_the_process(self, runtime: FullRuntime, spec: Make) -> None:
        code, found = await run(runtime, spec("cat", stdin=True, stdin_once=True), b"one\ntwo\n")
        assert (code, found[1]) == (0, b"one\ntwo\n")

    async def test_delete_kills_and_is_idempotent(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "sleep 1000")
        await runtime.create(asked)
        await runtime.start(asked.id)
        await runtime.delete(asked.id)
        await runtime.delete(asked.id)
        assert await runtime.state(asked.id) is None

    async def test_delete_of_what_was_never_started(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "echo never")
        await runtime.create(asked)
        await runtime.delete(asked.id)
        assert await runtime.state(asked.id) is None

    async def test_same_id_starts_again_after_its_end(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "exit 2")
        for _ in range(2):
            await runtime.create(asked)
            await runtime.start(asked.id)
            assert (await runtime.wait(asked.id)).code == 2
        await runtime.delete(asked.id)

    async def test_running_twice_is_a_conflict(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "sleep 1000")
        await runtime.create(asked)
        await runtime.start(asked.id)
        with pytest.raises(Conflict):
            await runtime.create(asked)
        state = await runtime.state(asked.id)
        assert state is not None
        assert state.phase == "running"
        await runtime.delete(asked.id)

    @pytest.mark.parametrize("command", ["nosuch", "/bin/nosuch"])
    async def test_a_bad_command_leaves_nothing(self, runtime: FullRuntime, spec: Make, command: str) -> None:
        asked = spec(command)

        async def begin() -> None:
            await runtime.create(asked)
            await runtime.start(asked.id)

        with pytest.raises(GantryError, match=r"executable file not found in \$PATH|no such file or directory"):
            await begin()
        await runtime.delete(asked.id)
        assert await runtime.state(asked.id) is None
        assert asked.id not in runtime.ids()

    async def test_unknown_containers(self, runtime: FullRuntime) -> None:
        for call in (runtime.start, runtime.wait, runtime.pids, runtime.pause, runtime.attach):
            with pytest.raises(NotFound):
                await call(UNKNOWN)
        with pytest.raises(NotFound):
            await runtime.kill(UNKNOWN, 9)
        assert await runtime.state(UNKNOWN) is None
        await runtime.delete(UNKNOWN)

    async def test_kill_after_the_end_is_a_conflict(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "exit 0")
        await runtime.create(asked)
        await runtime.start(asked.id)
        await runtime.wait(asked.id)
        with pytest.raises(Conflict):
            await runtime.kill(asked.id, 15)
        await runtime.delete(asked.id)

    async def test_exec(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "sleep 1000")
        await runtime.create(asked)
        await runtime.start(asked.id)
        request = ExecSpec(asked.id, "e" * 64, ProcessSpec(("sh", "-c", "echo in; exit 5"), asked.process.env))
        state = await runtime.exec(request)
        assert state.phase == "running"
        found = await output(await runtime.attach(asked.id, request.exec_id))
        assert found[1] == b"in\n"
        assert (await runtime.wait(asked.id, request.exec_id)).code == 5
        with pytest.raises(NotFound):
            await runtime.wait(asked.id, "f" * 64)
        await runtime.delete(asked.id)

    async def test_exec_needs_a_running_container(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "exit 0")
        await runtime.create(asked)
        await runtime.start(asked.id)
        await runtime.wait(asked.id)
        with pytest.raises(Conflict):
            await runtime.exec(ExecSpec(asked.id, "e" * 64, ProcessSpec(("true",), ())))
        await runtime.delete(asked.id)

    async def test_pause_and_resume(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "sleep 1000")
        await runtime.create(asked)
        await runtime.start(asked.id)
        await runtime.pause(asked.id)
        state = await runtime.state(asked.id)
        assert state is not None
        assert state.phase == "paused"
        with pytest.raises(Conflict):
            await runtime.exec(ExecSpec(asked.id, "e" * 64, ProcessSpec(("true",), ())))
        await runtime.resume(asked.id)
        state = await runtime.state(asked.id)
        assert state is not None
        assert state.phase == "running"
        await runtime.pause(asked.id)
        await runtime.kill(asked.id, signal.SIGKILL)
        assert (await runtime.wait(asked.id)).code == 137
        await runtime.delete(asked.id)

    async def test_two_readers_see_the_same(self, runtime: FullRuntime, spec: Make) -> None:
        asked = spec("sh", "-c", "echo hello")
        await runtime.create(asked)
        readers = [await runtime.attach(asked.id) for _ in range(2)]
        await runtime.start(asked.id)
        assert [await output(reader) for reader in readers] == [{1: b"hello\n", 2: b""}] * 2
        await runtime.delete(asked.id)

    async def test_runtimes(self, runtime: FullRuntime) -> None:
        default = runtime.default_runtime()
        assert runtime.runtimes()[default].problem == ""
