"""Choosing a runtime by what it can do: each really makes a tiny container on this machine, once per binary."""

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gantry.linux.cgroups import Hierarchies
from gantry.linux.process import find_program
from gantry.model.instance import Instance
from gantry.ports import RuntimeInfo
from gantry.runtime.oci_runtime import OCIRuntime, find

PREFERRED = ("crun", "runc")
INSTALL_HINT = "no OCI runtime can be used: install one (apt-get install crun)"
_PROGRAMS = ("busybox", "tini-static", "docker-init", "catatonit")


class _Verdict(msgspec.Struct, frozen=True):
    key: str
    info: RuntimeInfo


def probe_all(
    instance: Instance, hierarchies: Hierarchies, extra: Mapping[str, tuple[str, tuple[str, ...]]]
) -> dict[str, RuntimeInfo]:
    """Every known runtime by name, `extra` ones (path, arguments) included, each with its verdict (blocking).

    Verdicts are kept in the exec root as long as binary and kernel stay the same.
    """
    wanted: dict[str, tuple[str, tuple[str, ...]]] = {name: (name, ()) for name in PREFERRED}
    wanted.update(extra)
    cache = instance.exec_root / "runtimes.json"
    known = _load(cache)
    verdicts: dict[str, _Verdict] = {}
    for name, (path, args) in wanted.items():
        key = _key(path, args)
        found = known.get(name)
        if found is None or found.key != key:
            info = find(name, path, args)
            if not info.problem:
                info = msgspec.structs.replace(info, problem=_try(info, instance, hierarchies))
            found = _Verdict(key, info)
        verdicts[name] = found
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(verdicts))
    temporary.rename(cache)
    return {name: verdict.info for name, verdict in verdicts.items()}


def choose(runtimes: Mapping[str, RuntimeInfo], wanted: str) -> str:
    """The default runtime's name: `wanted` where it is given, else the first that works, "" for none."""
    if wanted:
        return wanted
    return next((name for name in PREFERRED if name in runtimes and not runtimes[name].problem), "")


def _load(cache: Path) -> dict[str, _Verdict]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, _Verdict])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _key(path: str, args: tuple[str, ...]) -> str:
    program = find_program(path)
    if not program:
        return ""
    info = os.stat(program)
    return " ".join((program, str(info.st_mtime_ns), str(info.st_size), platform.release(), *args))


def _try(info: RuntimeInfo, instance: Instance, hierarchies: Hierarchies) -> str:
    """Create, start and delete a container of one static program; "" where that works, else what went wrong."""
    program = next((path for name in _PROGRAMS if (path := find_program(name)) and _static(path)), "")
    if not program:
        return ""  # nothing to try with: trust the version
    name = f"probe-{info.name}"
    bundle = instance.exec_root / "probe" / name
    group = f"{instance.cgroup_parent}/{name}"
    runtime = OCIRuntime(info, bundle / "state")
    _clean(runtime, name, bundle, group, hierarchies)  # what an interrupted probe left
    # busybox finds its applet by the name that it is called by
    arguments = ("/bin/true",) if program.endswith("busybox") else ("/bin/probe", "--version")
    target = bundle / "rootfs" / arguments[0].lstrip("/")
    target.parent.mkdir(parents=True)
    target.touch()
    (bundle / "config.json").write_bytes(msgspec.json.encode(_document(program, arguments, group)))
    try:
        done = runtime.call("run", "--bundle", str(bundle), name, timeout=20)
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        return "" if done.code == 0 else said[-500:] or f"status {done.code}"
    finally:
        _clean(runtime, name, bundle, group, hierarchies)
        hierarchies.remove_unused(instance.cgroup_parent)


def _clean(runtime: OCIRuntime, name: str, bundle: Path, group: str, hierarchies: Hierarchies) -> None:
    hierarchies.kill(group)
    runtime.delete(name)
    hierarchies.remove(group)
    if bundle.exists():
        shutil.rmtree(bundle)


def _static(path: str) -> bool:
    """Whether an ELF program needs no interpreter: there is no PT_INTERP program header."""
    with open(os.path.realpath(path), "rb") as file:
        header = file.read(4096)
    if header[:5] != b"\x7fELF\x02":
        return False
    offset = int.from_bytes(header[32:40], "little")
    size, count = int.from_bytes(header[54:56], "little"), int.from_bytes(header[56:58], "little")
    kinds = [header[offset + i * size : offset + i * size + 4] for i in range(count)]
    return (3).to_bytes(4, "little") not in kinds


def _document(program: str, arguments: tuple[str, ...], group: str) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(arguments),
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": [], "effective": [], "permitted": []},
        },
        "root": {"path": "rootfs"},
        "hostname": "probe",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {
                "destination": arguments[0],
                "type": "bind",
                "source": os.path.realpath(program),
                "options": ["bind", "ro"],
            },
        ],
        "linux": {
            "cgroupsPath": group,
            "namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", "network")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }
