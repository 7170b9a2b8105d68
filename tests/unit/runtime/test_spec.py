"""The OCI configuration of a container, part by part."""

from typing import Any

import msgspec
import pytest

from gantry.errors import InvalidArgument, Unavailable
from gantry.model.container import (
    BindOptions,
    DeviceMapping,
    HostConfig,
    MountPoint,
    MountRequest,
    ThrottleDevice,
    TmpfsOptions,
    Ulimit,
)
from gantry.model.task import ProcessSpec, TaskSpec
from gantry.runtime import defaults
from gantry.runtime.devices import Device, DeviceNumbers, resolve
from gantry.runtime.facts import HostFacts
from gantry.runtime.mounts import bind_options, merge_tmpfs_options
from gantry.runtime.resources import device_rules, limits
from gantry.runtime.security import capabilities, parse_security_options
from gantry.runtime.spec import Resolved, build
from gantry.runtime.users import ResolvedUser

FACTS = HostFacts(
    capabilities=(*defaults.CAPABILITIES, "CAP_NET_ADMIN", "CAP_SYS_ADMIN"),
    hard_limits={"nofile": 20000},
    architecture="amd64",
    kernel=(6, 1),
    cgroup_unified=True,
    swap_limit=True,
    seccomp=True,
    sysctls=("net.ipv4.ping_group_range",),
    masked_paths=defaults.MASKED_PATHS,
    init_path="/usr/bin/tini-static",
)


def task(host: HostConfig | None = None, **fields: Any) -> TaskSpec:
    spec = TaskSpec(
        id="a" * 64,
        name="web",
        process=ProcessSpec(("run", "it"), ("PATH=/bin", "A=1")),
        rootfs=(),
        hostname="aaaa",
        domainname="",
        host_config=host or HostConfig(),
        netns="/run/netns/x",
    )
    return msgspec.structs.replace(spec, **fields)


def document(spec: TaskSpec, facts: HostFacts = FACTS, **fields: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "user": ResolvedUser(5, 6, (6, 7), "/home/u"),
        "devices": DeviceNumbers(),
        "facts": facts,
        "root": "/run/g/rootfs",
        "cgroups_path": "/gantry/x",
    }
    return build(spec, Resolved(**(values | fields)))


def mount_at(found: dict[str, Any], destination: str) -> dict[str, Any]:
    matches = [entry for entry in found["mounts"] if entry["destination"] == destination]
    assert len(matches) == 1, destination
    return matches[0]


def namespaces(found: dict[str, Any]) -> dict[str, str]:
    return {entry["type"]: entry.get("path", "") for entry in found["linux"]["namespaces"]}


def test_the_whole_is_json_and_names_its_version() -> None:
    found = msgspec.json.decode(msgspec.json.encode(document(task())))
    assert found["ociVersion"] == "1.0.2"
    assert found["root"] == {"path": "/run/g/rootfs", "readonly": False}
    assert found["hostname"] == "aaaa"
    assert found["linux"]["cgroupsPath"] == "/gantry/x"


def test_process() -> None:
    process = document(task())["process"]
    assert process["args"] == ["run", "it"]
    assert process["env"] == ["PATH=/bin", "A=1", "HOME=/home/u"]
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [6, 7]}
    assert process["cwd"] == "/"
    assert (process["terminal"], process["noNewPrivileges"], process["oomScoreAdj"]) == (False, False, 0)
    assert set(process["capabilities"]) == {"bounding", "effective", "permitted"}
    assert set(process["capabilities"]["bounding"]) == set(defaults.CAPABILITIES)


def test_home_of_the_image_stays() -> None:
    spec = task(process=ProcessSpec(("x",), ("HOME=/elsewhere",), cwd="/a/../b", tty=True, console_size=(24, 80)))
    process = document(spec)["process"]
    assert process["env"] == ["HOME=/elsewhere"]
    assert process["cwd"] == "/b"
    assert process["consoleSize"] == {"height": 24, "width": 80}


def test_default_mounts_in_order() -> None:
    found = document(task())
    assert [entry["destination"] for entry in found["mounts"]] == [
        "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm",
    ]  # fmt: skip
    assert "size=67108864" in mount_at(found, "/dev/shm")["options"]
    assert "ro" in mount_at(found, "/sys")["options"]
    assert found["linux"]["maskedPaths"] == list(defaults.MASKED_PATHS)
    assert found["linux"]["readonlyPaths"] == list(defaults.READONLY_PATHS)


def test_defaults_are_not_changed_by_use() -> None:
    before = document(task())
    document(task(HostConfig(privileged=True, shm_size=5), readonly_rootfs=True))
    assert document(task()) == before


def test_privileged() -> None:
    found = document(task(HostConfig(privileged=True)))
    assert "ro" not in mount_at(found, "/sys")["options"]
    assert "ro" not in mount_at(found, "/sys/fs/cgroup")["options"]
    assert (found["linux"]["maskedPaths"], found["linux"]["readonlyPaths"]) == ([], [])
    assert "seccomp" not in found["linux"]
    assert found["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert found["process"]["capabilities"]["bounding"] == list(FACTS.capabilities)  # never more than we have


def test_read_only_root() -> None:
    found = document(task(readonly_rootfs=True, hosts_file="/h"))
    assert found["root"]["readonly"] is True
    read_only = {entry["destination"] for entry in found["mounts"] if "ro" in entry["options"]}
    assert read_only == {"/sys", "/sys/fs/cgroup", "/etc/hosts"}


def test_namespaces_of_its_own() -> None:
    assert namespaces(document(task())) == {
        "mount": "", "network": "/run/netns/x", "pid": "", "ipc": "", "uts": "", "cgroup": "",
    }  # fmt: skip


def test_joined_and_shared_namespaces() -> None:
    found = document(task(join_pid=9, join_ipc=-1, join_uts=-1, netns=""))
    assert namespaces(found) == {"mount": "", "pid": "/proc/9/ns/pid", "cgroup": ""}
    assert "hostname" not in found
    assert mount_at(found, "/dev/shm")["source"] == "/dev/shm"
    assert mount_at(found, "/dev/mqueue")["type"] == "mqueue"


def test_cgroup_namespace_follows_the_version() -> None:
    legacy = msgspec.structs.replace(FACTS, cgroup_unified=False)
    assert "cgroup" not in namespaces(document(task(), legacy))
    assert "cgroup" in namespaces(document(task(HostConfig(cgroupns_mode="private")), legacy))
    assert "cgroup" not in namespaces(document(task(HostConfig(cgroupns_mode="host"))))


def test_shared_memory() -> None:
    assert mount_at(document(task(), shm="/run/shm1"), "/dev/shm")["source"] == "/run/shm1"
    none = document(task(HostConfig(ipc_mode="none")))
    assert all(entry["destination"] != "/dev/shm" for entry in none["mounts"])


def test_user_mounts_replace_defaults_and_come_by_depth() -> None:
    points = (
        MountPoint("bind", "/a/b/c", source="/1"),
        MountPoint("volume", "/a/", source="/2"),
        MountPoint("bind", "/dev", source="/dev"),
        MountPoint("bind", "/etc/hosts", source="/mine"),
    )
    found = document(task(mounts=points, hosts_file="/theirs", resolv_conf_file="/r"))
    order = [entry["destination"] for entry in found["mounts"]]
    assert order.index("/a") < order.index("/a/b/c")
    assert not {"/dev/pts", "/dev/shm", "/dev/mqueue"} & set(order)
    assert mount_at(found, "/etc/hosts")["source"] == "/mine"
    assert mount_at(found, "/etc/resolv.conf")["options"] == ["rbind", "rprivate"]


@pytest.mark.parametrize(
    ("point", "asked", "kernel", "is_file", "expected"),
    [
        (MountPoint("bind", "/x"), None, (6, 1), False, ["rbind", "rprivate"]),
        (MountPoint("bind", "/x", read_write=False), None, (6, 1), False, ["rbind", "rprivate", "rro"]),
        (MountPoint("bind", "/x", read_write=False), None, (5, 10), False, ["rbind", "rprivate", "ro"]),
        (MountPoint("bind", "/x", read_write=False), None, (6, 1), True, ["rbind", "rprivate", "ro"]),
        (
            MountPoint("bind", "/x", propagation="rslave", read_write=False),
            None,
            (6, 1),
            False,
            ["rbind", "rslave", "ro"],
        ),
        (MountPoint("bind", "/x"), BindOptions(non_recursive=True), (6, 1), False, ["bind", "rprivate"]),
        (
            MountPoint("bind", "/x", read_write=False),
            BindOptions(read_only_non_recursive=True),
            (6, 1),
            False,
            ["rbind", "rprivate", "ro"],
        ),
    ],
)
def test_bind_options(
    point: MountPoint, asked: BindOptions | None, kernel: tuple[int, int], is_file: bool, expected: list[str]
) -> None:
    request = MountRequest("bind", target="/x", bind_options=asked) if asked else None
    facts = msgspec.structs.replace(FACTS, kernel=kernel)
    assert bind_options(point, request, facts, is_file=is_file) == expected


def test_propagation_reaches_the_root() -> None:
    shared = document(task(mounts=(MountPoint("bind", "/x", source="/y", propagation="rshared"),)))
    slave = document(task(mounts=(MountPoint("bind", "/x", source="/y", propagation="rslave"),)))
    assert shared["linux"]["rootfsPropagation"] == "shared"
    assert slave["linux"]["rootfsPropagation"] == "rslave"
    assert "rootfsPropagation" not in document(task())["linux"]


def test_tmpfs() -> None:
    assert merge_tmpfs_options(()) == ["noexec", "nosuid", "nodev"]
    assert merge_tmpfs_options(("exec", "size=1m", "size=2m", "")) == ["nosuid", "nodev", "exec", "size=2m"]
    request = MountRequest(
        "tmpfs", target="/m", tmpfs_options=TmpfsOptions(size_bytes=1024, mode=0o1750, options=[["uid", "5"]])
    )
    found = document(
        task(HostConfig(tmpfs={"/t/": "rw,size=64k"}, mounts=[request]), mounts=(MountPoint("tmpfs", "/m"),))
    )
    assert mount_at(found, "/t")["options"] == ["noexec", "nosuid", "nodev", "rw", "size=64k", "rprivate"]
    assert mount_at(found, "/m")["options"][3:6] == ["size=1024", "mode=1750", "uid=5"]


def test_init_and_ca_bundle() -> None:
    found = document(task(init=True, ca_bundle="/etc/ssl/ca.crt"))
    assert found["process"]["args"] == ["/sbin/docker-init", "--", "run", "it"]
    assert mount_at(found, "/sbin/docker-init")["source"] == "/usr/bin/tini-static"
    assert "ro" in mount_at(found, "/dev/gantry-host-ca.crt")["options"]
    assert "SSL_CERT_FILE=/dev/gantry-host-ca.crt" in found["process"]["env"]
    with pytest.raises(Unavailable, match="tini"):
        document(task(init=True), msgspec.structs.replace(FACTS, init_path=""))


def test_sysctls() -> None:
    assert document(task())["linux"]["sysctl"] == {"net.ipv4.ping_group_range": "0 2147483647"}
    assert document(task(netns=""))["linux"]["sysctl"] == {}
    found = document(
        task(HostConfig(sysctls={"net.core.somaxconn": "9"}, network_mode="container:x"), domainname="d.e")
    )
    assert found["linux"]["sysctl"] == {"net.core.somaxconn": "9", "kernel.domainname": "d.e"}


def test_ulimits_stay_below_our_own() -> None:
    host = HostConfig(ulimits=[Ulimit("nofile", hard=10**6, soft=-1), Ulimit("core", hard=-1, soft=0)])
    assert document(task(host))["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "hard": 20000, "soft": 20000},
        {"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 0},
    ]


def test_resources() -> None:
    host = HostConfig(
        memory=1 << 20,
        memory_reservation=1 << 19,
        cpu_shares=10,
        nano_cpus=1_500_000_000,
        cpuset_cpus="0-1",
        pids_limit=7,
        blkio_weight=300,
        blkio_device_read_bps=[ThrottleDevice("/dev/sda", 99)],
        memory_swappiness=5,
        oom_kill_disable=True,
    )
    numbers = DeviceNumbers(blocks={"/dev/sda": (8, 0)})
    assert limits(host, numbers, FACTS) == {
        "memory": {"limit": 1 << 20, "reservation": 1 << 19, "swap": 2 << 20},
        "cpu": {"shares": 10, "quota": 150_000, "period": 100_000, "cpus": "0-1"},
        "pids": {"limit": 7},
        "blockIO": {"weight": 300, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 99}]},
    }
    legacy = msgspec.structs.replace(FACTS, cgroup_unified=False, swap_limit=False)
    assert limits(host, numbers, legacy)["memory"] == {
        "limit": 1 << 20, "reservation": 1 << 19, "swappiness": 5, "disableOOMKiller": True,
    }  # fmt: skip
    assert limits(HostConfig(pids_limit=-1), DeviceNumbers(), FACTS) == {}


def test_device_rules() -> None:
    numbers = DeviceNumbers(nodes=(Device("/dev/mine", "c", 10, 5, 0o600, 0, 0, "rw"),))
    rules = device_rules(HostConfig(device_cgroup_rules=["c 42:* rmw", "a *:* r"]), numbers)
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert rules[-3:] == [
        {"allow": True, "type": "c", "major": 10, "minor": 5, "access": "rw"},
        {"allow": True, "type": "c", "major": 42, "access": "rmw"},
        {"allow": True, "type": "a", "access": "r"},
    ]
    for text in ("", "c 1:3", "x 1:3 r", "c 1 r", "c 1:b r", "c 1:3 x", "c  1:3 r"):
        with pytest.raises(InvalidArgument, match="invalid device cgroup rule format"):
            device_rules(HostConfig(device_cgroup_rules=[text]), DeviceNumbers())


def test_devices_are_looked_up() -> None:
    found = resolve(HostConfig(devices=[DeviceMapping("/dev/null", "/dev/other", "r"), DeviceMapping("/dev/zero")]))
    assert [(d.path, d.kind, d.major, d.minor, d.access) for d in found.nodes] == [
        ("/dev/other", "c", 1, 3, "r"),
        ("/dev/zero", "c", 1, 5, "rwm"),
    ]


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["net_admin"], [], {*defaults.CAPABILITIES, "CAP_NET_ADMIN"}),
        ([], ["CAP_CHOWN", "mknod"], set(defaults.CAPABILITIES) - {"CAP_CHOWN", "CAP_MKNOD"}),
        (["CHOWN"], ["ALL"], {"CAP_CHOWN"}),
        (["all"], ["chown"], set(FACTS.capabilities) - {"CAP_CHOWN"}),
        (["SYS_RESOURCE"], ["all"], set()),  # not ours to give
    ],
)
def test_capabilities(add: list[str], drop: list[str], expected: set[str]) -> None:
    assert set(capabilities(privileged=False, add=add, drop=drop, available=FACTS.capabilities)) == expected


def test_unknown_capability() -> None:
    with pytest.raises(InvalidArgument, match='invalid CapAdd: unknown capability: "CAP_FOO"'):
        capabilities(privileged=False, add=["foo"], drop=None, available=())


def test_security_options() -> None:
    found = parse_security_options(
        ["no-new-privileges:true", "seccomp=unconfined", "apparmor=mine", "label=disable", "systempaths=unconfined"]
    )
    assert (found.no_new_privileges, found.seccomp, found.apparmor) == (True, "unconfined", "mine")
    assert found.system_paths_unconfined
    assert parse_security_options(["no-new-privileges"]).no_new_privileges
    assert not parse_security_options(["no-new-privileges=false"]).no_new_privileges
    for text in ("foo=bar", "systempaths=x", "no-new-privileges=maybe"):
        with pytest.raises(InvalidArgument, match=f'invalid --security-opt 2: "{text}"'):
            parse_security_options([text])
    with pytest.raises(InvalidArgument, match="invalid --security-opt 1"):
        parse_security_options(["foo"])


def test_seccomp_of_the_user() -> None:
    profile = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}'
    found = document(task(HostConfig(security_opt=[f"seccomp={profile}"], privileged=True)))
    assert found["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW"
    assert "seccomp" not in document(task(HostConfig(security_opt=["seccomp=unconfined"])))["linux"]
    assert document(task())["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
