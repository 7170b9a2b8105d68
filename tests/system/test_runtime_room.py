"""The runtime room alone, on the real kernel. It runs in a mount namespace of its own, as the daemon does."""

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from contract.runtime_suite import RuntimeSuite, output, run
from gantry.errors import GantryError, InvalidArgument, NotFound
from gantry.linux import mountns
from gantry.linux.cgroups import Hierarchies
from gantry.linux.mount import mount_points
from gantry.logs import reader
from gantry.model.container import Container, ContainerConfig, DeviceMapping, HostConfig, MountPoint, Ulimit
from gantry.model.instance import Instance
from gantry.model.task import ExecSpec, ProcessSpec, TaskSpec
from gantry.ports import LogQuery
from gantry.runtime.bundle import surviving_pids
from gantry.runtime.manager import RuntimeManager
from lib.room import PATH, Room

MARK = "GANTRY_TEST_RUNTIME_ROOM"
Make = Callable[..., TaskSpec]

if not os.environ.get(MARK):

    def test_in_a_mount_namespace_of_its_own() -> None:
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", __file__]
        done = subprocess.run(command, env=os.environ | {MARK: "1"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

else:
    _SCRATCH = Path(tempfile.mkdtemp(prefix="gt-", dir="/var/tmp"))
    _INSTANCE = Instance.of(_SCRATCH / "data", _SCRATCH / "exec")
    mountns.enter(_INSTANCE, [])

    @pytest.fixture(scope="module", autouse=True)
    def scratch_directory() -> Iterator[None]:
        yield
        left = [point for point in mount_points() if point.startswith(f"{_INSTANCE.exec_root}/")]
        assert left == []
        assert list((_INSTANCE.exec_root / "tasks").iterdir()) == []
        os.chdir("/")
        subprocess.run(["umount", "-l", _INSTANCE.data_root, _INSTANCE.exec_root], check=True)
        shutil.rmtree(_SCRATCH)

    @pytest.fixture
    async def runtime() -> AsyncIterator[RuntimeManager]:
        manager = RuntimeManager.open(_INSTANCE)
        yield manager
        for container_id in manager.ids():
            await manager.delete(container_id)
        await manager.close()

    @pytest.fixture
    def spec() -> Make:
        return Room(_INSTANCE).spec

    class TestContract(RuntimeSuite):
        """The suite on conmon and the preferred runtime."""

    class TestContractWithRunc(RuntimeSuite):
        @pytest.fixture
        def spec(self) -> Make:
            if not shutil.which("runc"):
                pytest.skip("runc is not installed")
            return lambda *args, **fields: Room(_INSTANCE).spec(*args, runtime="runc", **fields)

    async def test_a_runtime_that_hangs_is_killed(spec: Make, tmp_path: Path) -> None:
        odd = tmp_path / "odd-runtime"
        hangs = tmp_path / "hangs"
        odd.write_text(
            f'#!/bin/sh\nif [ -e {hangs} ]; then case "$*" in *create*) sleep 1000;; esac; fi\n'
            f'exec {shutil.which("runc") or shutil.which("crun")} "$@"\n'
        )
        odd.chmod(0o755)
        manager = RuntimeManager.open(_INSTANCE, runtimes={"odd": (str(odd), ())}, patience=0.5)
        hangs.touch()
        made = spec("true", runtime="odd")
        try:
            with pytest.raises(GantryError, match=r"within 0\.5 seconds"):
                await manager.create(made)
            assert await manager.state(made.id) is None
            listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
            assert str(odd) not in listed, "neither it nor its monitor is left"
            hangs.unlink()
            again = spec("true", runtime="odd")
            await manager.create(again)
            await manager.start(again.id)
            assert (await manager.wait(again.id)).code == 0
            await manager.delete(again.id)
        finally:
            await manager.close()

    async def shell(runtime: RuntimeManager, spec: Make, script: str, **fields: object) -> str:
        code, found = await run(runtime, spec("sh", "-c", script, **fields))
        assert (code, found[2]) == (0, b"")
        return found[1].decode()

    class TestInside:
        async def test_defaults(self, runtime: RuntimeManager, spec: Make) -> None:
            seen = await shell(runtime, spec, "grep -E '^(Cap|Seccomp|NoNew|Groups)' /proc/self/status; hostname; id")
            assert "CapEff:\t00000000a80425fb" in seen
            assert "CapBnd:\t00000000a80425fb" in seen
            assert "CapInh:\t0000000000000000" in seen
            assert "CapAmb:\t0000000000000000" in seen
            assert "Seccomp:\t2" in seen
            assert "uid=0(root) gid=0(root)" in seen

        async def test_the_filter_is_the_same_when_it_was_compiled_before(
            self, runtime: RuntimeManager, spec: Make
        ) -> None:
            script = "unshare -U true 2>&1; mount -t tmpfs x /tmp 2>&1; grep Seccomp: /proc/self/status; exit 0"
            first = await shell(runtime, spec, script)
            assert first.count("not permitted") + first.count("denied") == 2, first
            assert [await shell(runtime, spec, script) for _ in range(2)] == [first] * 2

        async def test_exec_is_filtered_too(self, runtime: RuntimeManager, spec: Make) -> None:
            for _ in range(2):
                asked = spec("sleep", "1000")
                await runtime.create(asked)
                await runtime.start(asked.id)
                process = ProcessSpec(("sh", "-c", "grep -E 'Seccomp:|CapEff' /proc/self/status"), (PATH,))
                await runtime.exec(ExecSpec(asked.id, "e" * 64, process))
                found = await output(await runtime.attach(asked.id, "e" * 64))
                assert found[1] == b"CapEff:\t00000000a80425fb\nSeccomp:\t2\n"
                await runtime.delete(asked.id)

        async def test_masked_and_read_only_paths(self, runtime: RuntimeManager, spec: Make) -> None:
            seen = await shell(runtime, spec, "wc -c < /proc/keys; ls /sys/firmware | wc -l")
            assert seen.split() == ["0", "0"]
            code, _ = await run(runtime, spec("sh", "-c", "echo 0 > /proc/sys/kernel/printk"))
            assert code == 1

        async def test_user_and_groups(self, runtime: RuntimeManager, spec: Make) -> None:
            seen = await shell(runtime, spec, "id -u; id -g; id -G; echo $HOME", user="nobody")
            assert seen.split("\n")[:4] == ["65534", "65534", "65534 50", "/nowhere"]
            seen = await shell(runtime, spec, "id -u; id -G; grep CapEff /proc/self/status; echo $HOME", user="1234:50")
            assert seen.split("\n")[:4] == ["1234", "50", "CapEff:\t0000000000000000", "/"]

        async def test_unknown_user(self, runtime: RuntimeManager, spec: Make) -> None:
            with pytest.raises(InvalidArgument, match="unable to find user ghost: no matching entries in passwd file"):
                await runtime.create(spec("true", user="ghost"))

        async def test_passwd_that_is_a_fifo_does_not_block(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("true", user="root")
            upper = Room(_INSTANCE).upper(asked.id) / "etc"
            upper.mkdir()
            os.mkfifo(upper / "passwd")
            with pytest.raises(InvalidArgument, match="unable to find user root"):
                await asyncio.wait_for(runtime.create(asked), 20)

        async def test_passwd_link_stays_inside(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("true", user="daemon")  # the host's passwd has it, the container's has not
            upper = Room(_INSTANCE).upper(asked.id) / "etc"
            upper.mkdir()
            (upper / "passwd").symlink_to("../../../../../../../../etc/passwd")
            with pytest.raises(InvalidArgument, match="unable to find user daemon"):
                await runtime.create(asked)

        async def test_working_directory(self, runtime: RuntimeManager, spec: Make) -> None:
            seen = await shell(runtime, spec, "pwd; ls -ldn /a/b/c", cwd="/a/b/c", user="1234")
            assert seen.startswith("/a/b/c\ndrwxr-xr-x")
            assert seen.split()[3:5] == ["0", "0"]
            with pytest.raises(InvalidArgument, match="Cannot mkdir: /etc/passwd is not a directory"):
                await runtime.create(spec("true", cwd="/etc/passwd"))

        async def test_working_directory_through_a_link_stays_inside(
            self, runtime: RuntimeManager, spec: Make, scratch: Path
        ) -> None:
            asked = spec("pwd", cwd="/out/made")
            (Room(_INSTANCE).upper(asked.id) / "out").symlink_to(scratch)
            (Room(_INSTANCE).upper(asked.id) / scratch.relative_to("/")).mkdir(parents=True)
            code, found = await run(runtime, asked)
            assert (code, found[1]) == (0, f"{scratch}/made\n".encode())
            assert list(scratch.iterdir()) == []

        async def test_limits(self, runtime: RuntimeManager, spec: Make) -> None:
            host = HostConfig(
                memory=64 << 20,
                pids_limit=33,
                cpu_shares=512,
                ulimits=[Ulimit("nofile", hard=200, soft=100)],
                shm_size=1 << 20,
            )
            seen = await shell(
                runtime, spec, "ulimit -n; ulimit -Hn; df -k /dev/shm | tail -1 | awk '{print $2}'", host=host
            )
            assert seen.split() == ["100", "200", "1024"]
            asked = spec("sleep", "1000", host=host)
            await runtime.create(asked)
            await runtime.start(asked.id)
            stats = await runtime.stats(asked.id)
            assert stats["memory_stats"]["limit"] == 64 << 20
            assert stats["pids_stats"] == {"current": 1, "limit": 33}
            assert stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0
            await runtime.update(asked.id, HostConfig(memory=96 << 20, pids_limit=44))
            stats = await runtime.stats(asked.id)
            assert (stats["memory_stats"]["limit"], stats["pids_stats"]["limit"]) == (96 << 20, 44)

        async def test_out_of_memory(self, runtime: RuntimeManager, spec: Make) -> None:
            host = HostConfig(memory=24 << 20, memory_swap=24 << 20)
            asked = spec("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1", host=host)
            await runtime.create(asked)
            await runtime.start(asked.id)
            status = await runtime.wait(asked.id)
            assert (status.code, status.oom_killed) == (137, True)

        async def test_privileged(self, runtime: RuntimeManager, spec: Make) -> None:
            host = HostConfig(privileged=True)
            seen = await shell(runtime, spec, "grep -E 'CapEff|Seccomp:' /proc/self/status; ls /dev/kmsg", host=host)
            own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
            assert f"CapEff:{own.partition(':')[2]}\nSeccomp:\t0\n" in seen

        async def test_read_only_root_and_tmpfs(self, runtime: RuntimeManager, spec: Make) -> None:
            host = HostConfig(tmpfs={"/scratch": "size=64k,mode=1770"})
            script = "touch /x 2>&1; touch /scratch/y && stat -c %a /scratch; echo > /dev/shm/z && echo shm"
            seen = await shell(runtime, spec, script, host=host, readonly_rootfs=True)
            assert "Read-only file system" in seen
            assert seen.split()[-2:] == ["1770", "shm"]

        async def test_binds(self, runtime: RuntimeManager, spec: Make, scratch: Path) -> None:
            (scratch / "file").write_text("content")
            points = (
                MountPoint("bind", "/rw", source=str(scratch)),
                MountPoint("bind", "/ro", source=str(scratch), read_write=False),
                MountPoint("bind", "/one/file", source=str(scratch / "file"), read_write=False),
            )
            seen = await shell(
                runtime,
                spec,
                "cat /one/file; echo; echo new > /rw/new; cat /ro/new; touch /ro/x 2>&1; exit 0",
                mounts=points,
            )
            assert seen.startswith("content\nnew\n")
            assert "Read-only file system" in seen
            assert (scratch / "new").read_text() == "new\n"

        async def test_volume_subpath_cannot_leave_the_volume(
            self, runtime: RuntimeManager, spec: Make, scratch: Path
        ) -> None:
            (scratch / "volume" / "sub").mkdir(parents=True)
            (scratch / "volume" / "sub" / "inside").write_text("yes")
            (scratch / "volume" / "link").symlink_to("/etc")
            good = MountPoint("volume", "/data", source=str(scratch / "volume"), name="v", subpath="sub")
            assert await shell(runtime, spec, "cat /data/inside", mounts=(good,)) == "yes"
            bad = MountPoint("volume", "/data", source=str(scratch / "volume"), name="v", subpath="link")
            with pytest.raises(InvalidArgument, match="cannot access path"):
                await runtime.create(spec("true", mounts=(bad,)))

        async def test_devices(self, runtime: RuntimeManager, spec: Make) -> None:
            host = HostConfig(devices=[DeviceMapping("/dev/null", "/dev/mine", "r")])
            assert "1, 3" in (await shell(runtime, spec, "ls -ln /dev/mine", host=host)).replace("   ", " ")
            with pytest.raises(InvalidArgument, match='adding custom device "/dev/ghost": no such file or directory'):
                await runtime.create(spec("true", host=HostConfig(devices=[DeviceMapping("/dev/ghost")])))
            with pytest.raises(InvalidArgument, match="not a device node"):
                await runtime.create(spec("true", host=HostConfig(devices=[DeviceMapping("/etc/passwd")])))

        async def test_joined_namespaces(self, runtime: RuntimeManager, spec: Make) -> None:
            donor = spec("sh", "-c", "echo shared > /dev/shm/note; sleep 1000", host=HostConfig(ipc_mode="shareable"))
            state = await runtime.create(donor)
            stream = await runtime.attach(donor.id)
            await runtime.start(donor.id)
            joined = {"join_pid": state.pid, "join_ipc": state.pid, "join_uts": state.pid}
            while True:  # the donor writes its note at its own pace
                code, found = await run(
                    runtime, spec("sh", "-c", "cat /dev/shm/note; hostname; ps | grep -c sleep", **joined)
                )
                if code == 0 and found[1].startswith(b"shared"):
                    break
            assert found[1].split()[1].decode() == donor.hostname
            assert int(found[1].split()[2]) >= 1
            await stream.close()

        async def test_init(self, runtime: RuntimeManager, spec: Make) -> None:
            assert "/sbin/docker-init -- sh" in await shell(runtime, spec, "ps", init=True)

        async def test_ca_bundle(self, runtime: RuntimeManager, spec: Make, scratch: Path) -> None:
            (scratch / "ca.crt").write_text("certificates")
            script = "cat $SSL_CERT_FILE; echo; echo $PIP_CERT $CURL_CA_BUNDLE"
            env = (PATH, "PIP_CERT=/own")
            asked = spec("sh", "-c", script, env=env, ca_bundle=str(scratch / "ca.crt"))
            _, found = await run(runtime, asked)
            assert found[1] == b"certificates\n/own /dev/gantry-host-ca.crt\n"
            assert not (Room(_INSTANCE).upper(asked.id) / "dev" / "gantry-host-ca.crt").exists()

        async def test_hostile_links_in_the_image(self, runtime: RuntimeManager, spec: Make, scratch: Path) -> None:
            for name in ("etc", "dev", "proc", "sys"):
                asked = spec("true")
                upper = Room(_INSTANCE).upper(asked.id)
                (upper / name).symlink_to(scratch)
                try:
                    await run(runtime, asked)
                except GantryError:
                    await runtime.delete(asked.id)  # to refuse is as good as to stay inside
                assert list(scratch.iterdir()) == [], name

    class TestStreams:
        async def test_nothing_is_lost_without_a_reader_in_a_hurry(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("sh", "-c", "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done")
            await runtime.create(asked)
            stream = await runtime.attach(asked.id)
            await runtime.start(asked.id)
            await asyncio.sleep(0.3)
            found = await output(stream)
            assert found[1] == b"".join(b"line %d\n" % i for i in range(30000))

        async def test_exec_output_before_the_attach(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("sleep", "1000")
            await runtime.create(asked)
            await runtime.start(asked.id)
            await runtime.exec(ExecSpec(asked.id, "e" * 64, ProcessSpec(("echo", "early"), (PATH,))))
            await asyncio.sleep(0.3)
            assert (await output(await runtime.attach(asked.id, "e" * 64)))[1] == b"early\n"

        async def test_detached_exec_does_not_wait_for_a_reader(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("sleep", "1000")
            await runtime.create(asked)
            await runtime.start(asked.id)
            process = ProcessSpec(("dd", "if=/dev/zero", "bs=1M", "count=4"), (PATH,))
            await runtime.exec(ExecSpec(asked.id, "e" * 64, process, detached=True))
            assert (await asyncio.wait_for(runtime.wait(asked.id, "e" * 64), 20)).code == 0

        @pytest.mark.parametrize(
            ("command", "message"),
            [
                ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
                ("/bin/nosuch", 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'),
                ("/etc", 'exec: "/etc": is a directory: permission denied'),
                ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
            ],
        )
        async def test_bad_commands(self, runtime: RuntimeManager, spec: Make, command: str, message: str) -> None:
            with pytest.raises(InvalidArgument) as refused:
                await runtime.create(spec(command))
            assert refused.value.message == (
                "failed to create task for container: failed to create shim task: OCI runtime create failed: "
                f"runc create failed: unable to start container process: error during container init: {message}"
            )
            asked = spec("sleep", "1000")
            await runtime.create(asked)
            await runtime.start(asked.id)
            with pytest.raises(InvalidArgument) as refused:
                await runtime.exec(ExecSpec(asked.id, "e" * 64, ProcessSpec((command,), (PATH,))))
            assert refused.value.message == (
                f"OCI runtime exec failed: exec failed: unable to start container process: {message}"
            )
            with pytest.raises(NotFound):
                await runtime.wait(asked.id, "e" * 64)

        async def test_terminal(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("sh", "-c", "stty -echo; stty size; read x; echo got $x; stty size", tty=True, stdin=True)
            process = msgspec.structs.replace(asked.process, console_size=(33, 77))
            await runtime.create(msgspec.structs.replace(asked, process=process))
            stream = await runtime.attach(asked.id, stdin=True)
            await runtime.start(asked.id)
            frames = stream.__aiter__()
            seen = b""
            while b"\n" not in seen:
                seen += (await anext(frames))[1]
            assert seen == b"33 77\r\n"
            await runtime.resize(asked.id, 41, 99)
            await asyncio.sleep(0.5)
            await stream.write(b"word\n")
            assert (await output(stream))[1] == b"got word\r\n41 99\r\n"

        async def test_a_reader_that_leaves_does_not_close_stdin(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("cat", stdin=True, stdin_once=True)
            await runtime.create(asked)
            holder = await runtime.attach(asked.id, stdin=True)
            viewer = await runtime.attach(asked.id)
            await runtime.start(asked.id)
            await viewer.close()
            await asyncio.sleep(0.1)
            await holder.write(b"still here\n")
            await holder.close_stdin()
            assert (await output(holder))[1] == b"still here\n"

        async def test_stdin_stays_open_between_attaches(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("cat", stdin=True)
            await runtime.create(asked)
            await runtime.start(asked.id)
            for word in (b"one\n", b"two\n"):
                stream = await runtime.attach(asked.id, stdin=True)
                await stream.write(word)
                assert await anext(stream.__aiter__()) == (1, word)
                await stream.close()

        async def test_large_input(self, runtime: RuntimeManager, spec: Make) -> None:
            data = os.urandom(1 << 20)
            asked = spec("sh", "-c", "sleep 0.2; cat | md5sum", stdin=True, stdin_once=True)
            code, found = await run(runtime, asked, data)
            assert (code, found[1].split()[0]) == (0, hashlib.md5(data).hexdigest().encode())

        async def test_log_is_what_the_process_wrote(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("sh", "-c", "printf 'a b\\n\\nno newline'; head -c 20000 /dev/zero | tr '\\0' x")
            await runtime.create(asked)
            await runtime.start(asked.id)
            await runtime.wait(asked.id)
            container = Container(
                id=asked.id, name="", created_at=0, image_id="", image_ref="", platform="", path="", args=(),
                config=ContainerConfig(), host_config=HostConfig(), runtime="", driver="", log_path=asked.log_path,
            )  # fmt: skip
            ended = asyncio.Event()
            ended.set()
            batches = reader.read(Path(container.log_path), LogQuery(), ended)
            entries = [entry async for batch in batches for entry in batch]
            assert b"".join(entry.data for entry in entries) == b"a b\n\nno newline" + b"x" * 20000

    class TestCleanness:
        async def test_nothing_is_left(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec(
                "sh",
                "-c",
                "mkdir /sys/fs/cgroup/memory/deep 2>/dev/null; sleep 1000 & sleep 1000",
                host=HostConfig(privileged=True),
            )
            await runtime.create(asked)
            await runtime.start(asked.id)
            pids = await runtime.pids(asked.id)
            await runtime.delete(asked.id)
            assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
            assert list(Hierarchies.find().directories(f"{_INSTANCE.cgroup_parent}/{asked.id}")) == []
            assert not (_INSTANCE.exec_root / "tasks" / asked.id).exists()
            assert not (_INSTANCE.exec_root / "runtimes" / "crun" / asked.id).exists()

        async def test_a_cancelled_create_leaves_nothing(self, runtime: RuntimeManager, spec: Make) -> None:
            for delay in (0.0, 0.002, 0.01):
                asked = spec("sleep", "1000")
                task = asyncio.ensure_future(runtime.create(asked))  # noqa: TID251
                await asyncio.sleep(delay)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await runtime.state(asked.id) is None

        async def test_a_monitor_that_dies_ends_its_container(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("sleep", "1000")
            state = await runtime.create(asked)
            await runtime.start(asked.id)
            parent = int(Path(f"/proc/{state.pid}/stat").read_text().rpartition(") ")[2].split()[1])
            os.kill(parent, signal.SIGKILL)
            assert (await asyncio.wait_for(runtime.wait(asked.id), 20)).code == 137

        async def test_many_at_once(self, runtime: RuntimeManager, spec: Make) -> None:
            results = await asyncio.gather(*(run(runtime, spec("sh", "-c", f"echo {i}; exit {i}")) for i in range(12)))
            assert [(code, found[1]) for code, found in results] == [(i, f"{i}\n".encode()) for i in range(12)]

    class TestSurvival:
        async def test_a_new_manager_goes_on(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = [spec("sh", "-c", f"trap 'exit {i}' TERM; sleep 1000 & wait") for i in range(3)]
            pids = {}
            for one in asked:
                pids[one.id] = (await runtime.create(one)).pid
                await runtime.start(one.id)
            created = spec("true")
            await runtime.create(created)
            await runtime.close()
            assert len(surviving_pids(_INSTANCE)) == 4
            again = RuntimeManager.open(_INSTANCE)
            try:
                assert sorted(again.ids()) == sorted([*pids, created.id])
                for one in asked:
                    state = await again.state(one.id)
                    assert state is not None
                    assert (state.phase, state.pid) == ("running", pids[one.id])
                state = await again.state(created.id)
                assert state is not None
                assert state.phase == "created"
                await again.start(created.id)
                assert (await again.wait(created.id)).code == 0
                for i, one in enumerate(asked):
                    await again.kill(one.id, signal.SIGTERM)
                    assert (await again.wait(one.id)).code == i
                    await again.delete(one.id)
                await again.delete(created.id)
            finally:
                await again.close()

        async def test_an_end_in_between_is_known(self, runtime: RuntimeManager, spec: Make) -> None:
            asked = spec("sh", "-c", "sleep 0.2; exit 9")
            await runtime.create(asked)
            await runtime.start(asked.id)
            await runtime.close()
            await asyncio.sleep(0.6)
            again = RuntimeManager.open(_INSTANCE)
            try:
                assert (await again.wait(asked.id)).code == 9
                await again.delete(asked.id)
            finally:
                await again.close()

        @pytest.mark.parametrize("moment", range(8))
        async def test_killed_at_any_moment(self, spec: Make, moment: int) -> None:
            """A process that creates a container is killed somewhere in between; a new manager cleans up."""
            asked = spec("sleep", "1000")
            child = os.fork()
            if child == 0:
                _create_and_hang(asked)
            await asyncio.sleep(0.1 + moment * 0.012)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            manager = RuntimeManager.open(_INSTANCE)
            try:
                await manager.state(asked.id)
                await manager.delete(asked.id)
                assert await manager.state(asked.id) is None
                group = f"{_INSTANCE.cgroup_parent}/{asked.id}"
                assert list(Hierarchies.find().directories(group)) == []
            finally:
                await manager.close()
            assert surviving_pids(_INSTANCE) == []

    def _create_and_hang(spec: TaskSpec) -> None:
        program = (
            "import asyncio, sys, msgspec; from pathlib import Path; from gantry.model.instance import Instance;"
            "from gantry.model.task import TaskSpec; from gantry.runtime.manager import RuntimeManager\n"
            "async def main():\n"
            "    manager = RuntimeManager.open(Instance.of(Path(sys.argv[1]), Path(sys.argv[2])))\n"
            "    spec = msgspec.json.decode(sys.argv[3], type=TaskSpec)\n"
            "    await manager.create(spec); await manager.start(spec.id); await asyncio.sleep(100)\n"
            "asyncio.run(main())\n"
        )
        arguments = [str(_INSTANCE.data_root), str(_INSTANCE.exec_root), msgspec.json.encode(spec).decode()]
        os.execve(sys.executable, [sys.executable, "-c", program, *arguments], os.environ)
