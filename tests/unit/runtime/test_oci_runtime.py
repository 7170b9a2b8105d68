"""Runtimes: finding, probing verdicts, the in-process start and delete of crun, compiled filters."""

import os
from pathlib import Path

import pytest

from gantry.errors import Conflict, Internal, InvalidArgument
from gantry.linux.cgroups import Hierarchies, Mode
from gantry.model.instance import Instance
from gantry.ports import RuntimeInfo
from gantry.runtime import probe
from gantry.runtime.filters import ANNOTATION, FilterCache
from gantry.runtime.oci_runtime import OCIRuntime, find

ID = "a" * 64


def program(directory: Path, text: str, name: str = "runtime") -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def crun(directory: Path) -> OCIRuntime:
    return OCIRuntime(RuntimeInfo("crun", "/no/such/crun", "crun version 1.8", ""), directory)


def test_find(tmp_path: Path) -> None:
    path = program(tmp_path, "echo 'myrun version 3.1'; echo 'commit: abc'; echo 'spec: 1.0'")
    assert find("mine", path, ("--debug",)) == RuntimeInfo("mine", path, "myrun version 3.1", "abc", "", ("--debug",))
    assert "not found" in find("mine", "/no/such/runtime").problem
    assert "failed with status 3" in find("mine", program(tmp_path, "exit 3")).problem


def test_start_writes_one_byte_and_takes_the_fifo_away(tmp_path: Path) -> None:
    (tmp_path / ID).mkdir()
    fifo = tmp_path / ID / "exec.fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    crun(tmp_path).start(ID)
    assert os.read(reader, 10) == b"\0"
    assert not fifo.exists()
    os.close(reader)


def test_start_of_a_process_that_has_gone(tmp_path: Path) -> None:
    (tmp_path / ID).mkdir()
    os.mkfifo(tmp_path / ID / "exec.fifo")
    with pytest.raises(Conflict, match="is not running"):
        crun(tmp_path).start(ID)


def test_start_without_a_fifo_asks_the_runtime(tmp_path: Path) -> None:
    path = program(tmp_path, f'echo "$@" >> {tmp_path}/called; [ "$4" = good ] || {{ echo bad >&2; exit 1; }}')
    runtime = OCIRuntime(RuntimeInfo("crun", path, "crun version 1.8", ""), tmp_path / "state")
    runtime.start("good")
    assert (tmp_path / "called").read_text() == f"--root={tmp_path}/state --cgroup-manager=cgroupfs start good\n"
    with pytest.raises(Internal, match="bad"):
        runtime.start("other")


def test_arguments_of_another_runtime(tmp_path: Path) -> None:
    runtime = OCIRuntime(RuntimeInfo("runsc", "/x/runsc", "runsc version 1", "", "", ("--platform=kvm",)), tmp_path)
    assert runtime.arguments == (f"--root={tmp_path}", "--platform=kvm")


def test_delete(tmp_path: Path) -> None:
    (tmp_path / ID / "deep").mkdir(parents=True)
    crun(tmp_path).delete(ID)
    crun(tmp_path).delete(ID)
    assert not (tmp_path / ID).exists()
    other = OCIRuntime(RuntimeInfo("runc", program(tmp_path, "exit 1"), "runc version 1", ""), tmp_path)
    other.delete(ID)
    (tmp_path / ID).mkdir()
    with pytest.raises(Internal):
        other.delete(ID)


def test_update_hands_limits_over(tmp_path: Path) -> None:
    path = program(tmp_path, f"cat > {tmp_path}/given; echo too low >&2; exit ${{FAIL:-0}}")
    runtime = OCIRuntime(RuntimeInfo("runc", path, "runc version 1", ""), tmp_path)
    runtime.update(ID, {"memory": {"limit": 5}})
    assert (tmp_path / "given").read_text() == '{"memory":{"limit":5}}'
    runtime = OCIRuntime(RuntimeInfo("runc", program(tmp_path, "echo too low >&2; exit 1"), "x", ""), tmp_path)
    with pytest.raises(InvalidArgument, match=f"Cannot update container {ID}: too low"):
        runtime.update(ID, {})


def test_default_runtime() -> None:
    good = RuntimeInfo("runc", "/r", "1", "")
    bad = RuntimeInfo("crun", "/c", "1", "", "broken")
    assert probe.choose({"crun": bad, "runc": good}, "") == "runc"
    assert probe.choose({"crun": RuntimeInfo("crun", "/c", "1", ""), "runc": good}, "") == "crun"
    assert probe.choose({"crun": bad}, "") == ""
    assert probe.choose({"crun": bad}, "mine") == "mine"


def test_verdicts_are_kept_while_the_binary_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def attempt(info: RuntimeInfo, instance: Instance, hierarchies: Hierarchies) -> str:
        tried.append(info.name)
        return "" if info.name == "good" else "cannot"

    monkeypatch.setattr(probe, "PREFERRED", ())
    monkeypatch.setattr(probe, "_try", attempt)
    instance = Instance.of(tmp_path / "data", tmp_path / "exec")
    hierarchies = Hierarchies(Mode.LEGACY, {})
    path = program(tmp_path, "echo r version 1")
    extra = {"good": (path, ()), "bad": (path, ("--x",))}
    for _ in range(2):
        found = probe.probe_all(instance, hierarchies, extra)
        assert {name: info.problem for name, info in found.items()} == {"good": "", "bad": "cannot"}
    assert tried == ["good", "bad"]
    os.utime(path, (1, 1))
    probe.probe_all(instance, hierarchies, extra)
    assert tried == ["good", "bad"] * 2
    (instance.exec_root / "runtimes.json").write_text("{ damaged")
    probe.probe_all(instance, hierarchies, extra)
    assert len(tried) == 6


def test_static_programs() -> None:
    assert probe._static("/bin/busybox")
    assert not probe._static("/bin/sh")
    assert not probe._static("/etc/passwd")


def test_filters_are_learnt_once(tmp_path: Path) -> None:
    cache, runtime = FilterCache(), crun(tmp_path)
    source = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}
    first: dict[str, object] = {"linux": {"seccomp": source}}
    key = cache.apply(first, runtime)
    assert key
    assert "annotations" not in first
    cache.learn(key, runtime, ID)  # nothing is there: nothing is learnt
    (tmp_path / ID).mkdir()
    (tmp_path / ID / "seccomp.bpf").write_bytes(b"12345")
    cache.learn(key, runtime, ID)
    assert cache.apply({"linux": {"seccomp": source}}, runtime) == key  # no whole instruction
    (tmp_path / ID / "seccomp.bpf").write_bytes(b"12345678")
    cache.learn(key, runtime, ID)
    second: dict[str, object] = {"linux": {"seccomp": source}, "annotations": {"a": "b"}}
    assert cache.apply(second, runtime) == ""
    assert second == {"linux": {"seccomp": source}, "annotations": {"a": "b", ANNOTATION: "MTIzNDU2Nzg="}}


def test_filters_that_are_not_remembered(tmp_path: Path) -> None:
    cache, runtime = FilterCache(), crun(tmp_path)
    other = OCIRuntime(RuntimeInfo("runc", "/r", "runc version 1", ""), tmp_path)
    assert cache.apply({"linux": {}}, runtime) == ""
    assert cache.apply({"linux": {"seccomp": {"flags": ["X"]}}}, runtime) == ""
    assert cache.apply({"linux": {"seccomp": {"a": 1}}}, other) == ""
    keys = [cache.apply({"linux": {"seccomp": {"a": number}}}, runtime) for number in (1, 2)]
    assert keys[0] != keys[1]
