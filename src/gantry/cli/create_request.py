"""From the flags of `run` and `create` to the body of POST /containers/create, exactly as Docker's client maps them."""

from __future__ import annotations

import os

from gantry.cli import opts_network
from gantry.cli.errors import CommandError, StartError
from gantry.cli.flags import quote
from gantry.cli.opts import labels, read_key_values
from gantry.cli.terminal import size as terminal_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from gantry.cli.flags import Arguments

HOST_CA = "io.gantry.host-ca"
"""The annotation that lends the host's certificate authorities to a container."""


def build(args: Arguments, environ: Mapping[str, str], *, detach: bool = False) -> dict[str, Any]:
    """The whole body; raises StartError for values that do not go together."""
    config = _config(args, environ)
    host = _host_config(args)
    if args["publish"] or args["expose"]:
        from gantry.cli import opts_ports

        config["ExposedPorts"], host["PortBindings"] = opts_ports.parse(args["publish"], args["expose"])
    if args["volume"]:
        from gantry.cli import opts_mounts

        host["Binds"], config["Volumes"] = opts_mounts.volumes(args["volume"])
    endpoints = opts_network.endpoints(args)
    if detach:
        if args["attach"]:
            raise CommandError("conflicting options: cannot specify both --attach and --detach")
        config.update(AttachStdin=False, AttachStdout=False, AttachStderr=False, StdinOnce=False)
    return {**config, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}}


def _set(target: dict[str, Any], **values: Any) -> None:
    """Set what is not empty: the daemon's defaults stand for the rest."""
    target.update((key, value) for key, value in values.items() if value)


def _config(args: Arguments, environ: Mapping[str, str]) -> dict[str, Any]:
    attach = args.strings("attach")
    stdin = args.boolean("interactive")
    config: dict[str, Any] = {
        "AttachStdin": stdin or "stdin" in attach,
        "AttachStdout": not attach or "stdout" in attach,
        "AttachStderr": not attach or "stderr" in attach,
        "Tty": args.boolean("tty"),
        "OpenStdin": stdin,
        "StdinOnce": stdin,
        "Image": args.positional[0],
        "Cmd": args.positional[1:] or None,
        "Env": read_key_values(args["env-file"], args["env"], environ),
        "Labels": labels(read_key_values(args["label-file"], args["label"], None)),
    }
    _set(
        config,
        Hostname=args["hostname"],
        Domainname=args["domainname"],
        User=args["user"],
        WorkingDir=args["workdir"],
        StopSignal=args["stop-signal"],
        Healthcheck=_health(args),
    )
    if "entrypoint" in args.changed:
        config["Entrypoint"] = [args["entrypoint"]]
    if "stop-timeout" in args.changed:
        config["StopTimeout"] = args["stop-timeout"]
    if args["mac-address"]:
        opts_network.check_mac(args["mac-address"])
    return config


def _health(args: Arguments) -> dict[str, Any] | None:
    names = ("health-interval", "health-timeout", "health-start-period", "health-start-interval", "health-retries")
    tests = [
        (kind, args[name])
        for kind, name in (("CMD-SHELL", "health-cmd"), ("HTTP", "health-http"), ("TCP", "health-tcp"))
        if args[name]
    ]
    if args.boolean("no-healthcheck"):
        if tests or args["health-on-failure"] or any(args[name] for name in names):
            raise StartError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if len(tests) > 1:
        raise StartError("only one of --health-cmd, --health-http and --health-tcp can be given")
    if not tests and not args["health-on-failure"] and not any(args[name] for name in names):
        return None
    for name in names:
        if args[name] < 0:
            raise StartError(f"--{name} cannot be negative")
    health: dict[str, Any] = {}
    _set(
        health,
        Test=list(tests[0]) if tests else None,
        Interval=args["health-interval"],
        Timeout=args["health-timeout"],
        StartPeriod=args["health-start-period"],
        StartInterval=args["health-start-interval"],
        Retries=args["health-retries"],
        OnFailure=args["health-on-failure"],
    )
    return health


def _host_config(args: Arguments) -> dict[str, Any]:
    swappiness = args["memory-swappiness"]
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise StartError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    host: dict[str, Any] = {
        "NetworkMode": opts_network.mode(args),
        "RestartPolicy": restart_policy(args.string("restart")),
        "LogConfig": _logging(args),
        "MemorySwappiness": swappiness,
        "OomKillDisable": args["oom-kill-disable"],
        "PidsLimit": args["pids-limit"],
        "CgroupnsMode": args["cgroupns"],
        "ConsoleSize": list(terminal_size()),
    }
    if args.boolean("rm") and host["RestartPolicy"]["Name"] not in ("", "no"):
        raise StartError("conflicting options: cannot specify both --restart and --rm")
    if "init" in args.changed:
        host["Init"] = args["init"]
    _namespaces(args, host)
    _security(args, host)
    _resources(args, host)
    _set(
        host,
        ContainerIDFile=args["cidfile"],
        AutoRemove=args["rm"],
        Privileged=args["privileged"],
        Links=args["link"],
        PublishAllPorts=args["publish-all"],
        Dns=args["dns"],
        DnsSearch=args["dns-search"],
        DnsOptions=args["dns-option"] + args["dns-opt"],
        ExtraHosts=args["add-host"],
        VolumesFrom=args["volumes-from"],
        CapAdd=_capabilities(args["cap-add"]),
        CapDrop=_capabilities(args["cap-drop"]),
        GroupAdd=args["group-add"],
        ReadonlyRootfs=args["read-only"],
        VolumeDriver=args["volume-driver"],
        Isolation=args["isolation"],
        ShmSize=args["shm-size"],
        Sysctls=labels(args["sysctl"]),
        Runtime=args["runtime"],
        Mounts=args["mount"],
        StorageOpt=_storage(args.strings("storage-opt")),
    )
    if args["tmpfs"]:
        from gantry.cli.opts_mounts import tmpfs

        host["Tmpfs"] = tmpfs(args["tmpfs"])
    annotations = labels(args["annotation"])
    if args.boolean("host-ca"):
        annotations[HOST_CA] = "true"
    _set(host, Annotations=annotations)
    return host


def _namespaces(args: Arguments, host: dict[str, Any]) -> None:
    pid = args.string("pid")
    if pid not in ("", "host") and not (pid.startswith("container:") and pid != "container:"):
        raise StartError("--pid: invalid PID mode")
    for name, label, allowed in (
        ("uts", "UTS", ("", "host")),
        ("userns", "USER", ("", "host")),
        ("cgroupns", "CGROUP", ("", "host", "private")),
    ):
        if args[name] not in allowed:
            raise StartError(f"--{name}: invalid {label} mode")
    _set(host, PidMode=pid, UTSMode=args["uts"], UsernsMode=args["userns"], IpcMode=args["ipc"])


def _resources(args: Arguments, host: dict[str, Any]) -> None:
    ulimits = {limit["Name"]: limit for limit in args["ulimit"]}
    _set(
        host,
        Memory=args["memory"],
        MemoryReservation=args["memory-reservation"],
        MemorySwap=args["memory-swap"],
        NanoCpus=args["cpus"],
        CpuCount=args["cpu-count"],
        CpuPercent=args["cpu-percent"],
        CpuShares=args["cpu-shares"],
        CpuPeriod=args["cpu-period"],
        CpuQuota=args["cpu-quota"],
        CpuRealtimePeriod=args["cpu-rt-period"],
        CpuRealtimeRuntime=args["cpu-rt-runtime"],
        CpusetCpus=args["cpuset-cpus"],
        CpusetMems=args["cpuset-mems"],
        CgroupParent=args["cgroup-parent"],
        OomScoreAdj=args["oom-score-adj"],
        BlkioWeight=args["blkio-weight"],
        BlkioWeightDevice=args["blkio-weight-device"],
        BlkioDeviceReadBps=args["device-read-bps"],
        BlkioDeviceWriteBps=args["device-write-bps"],
        BlkioDeviceReadIOps=args["device-read-iops"],
        BlkioDeviceWriteIOps=args["device-write-iops"],
        IOMaximumIOps=args["io-maxiops"],
        IOMaximumBandwidth=args["io-maxbandwidth"],
        DeviceCgroupRules=args["device-cgroup-rule"],
        Ulimits=[ulimits[name] for name in sorted(ulimits)],
    )
    requests = list(args["gpus"])
    if args["device"]:
        from gantry.cli.opts_resources import devices

        host["Devices"], named = devices(args["device"])
        if named:
            requests.append({"Driver": "cdi", "DeviceIDs": named})
    _set(host, DeviceRequests=requests)


def _capabilities(names: Sequence[str]) -> list[str]:
    """Names in capitals with CAP_, each once, sorted."""
    upper = {name.strip().upper() for name in names}
    return sorted(name if name == "ALL" or name.startswith("CAP_") else "CAP_" + name for name in upper)


def restart_policy(text: str) -> dict[str, Any]:
    name, colon, count = text.partition(":")
    if colon and not name:
        raise StartError("invalid restart policy format: no policy provided before colon")
    policy: dict[str, Any] = {"Name": name, "MaximumRetryCount": 0}
    if count:
        try:
            policy["MaximumRetryCount"] = int(count)
        except ValueError:
            raise StartError("invalid restart policy format: maximum retry count must be an integer") from None
    return policy


def _logging(args: Arguments) -> dict[str, Any]:
    options = labels(args["log-opt"])
    if args["log-driver"] == "none" and options:
        raise StartError("invalid logging opts for driver none")
    return {"Type": args["log-driver"], "Config": options}


def _storage(texts: Sequence[str]) -> dict[str, str]:
    if any("=" not in text for text in texts):
        raise StartError("invalid storage option")
    return labels(texts)


def _security(args: Arguments, host: dict[str, Any]) -> None:
    """--security-opt: a seccomp profile is read here and sent by content; systempaths has fields of its own."""
    result = []
    for text in args.strings("security-opt"):
        key, mark, rest = text.partition("=")
        if not mark and key != "no-new-privileges":
            key, mark, rest = text.partition(":")
        if not rest and key != "no-new-privileges":
            raise StartError(f"Invalid --security-opt: {quote(text)}")
        if key == "systempaths" and rest == "unconfined":
            host["MaskedPaths"], host["ReadonlyPaths"] = [], []
        elif key == "seccomp" and rest not in ("unconfined", "builtin"):
            result.append("seccomp=" + _profile(rest))
        else:
            result.append(text)
    _set(host, SecurityOpt=result)


def _profile(path: str) -> str:
    import json

    from gantry.model.gojson import json_error

    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        words = os.strerror(error.errno or 0).lower()
        raise StartError(f"opening seccomp profile ({path}) failed: open {path}: {words}") from error
    try:
        return json.dumps(json.loads(content), separators=(",", ":"), ensure_ascii=False)
    except json.JSONDecodeError as error:
        raise StartError(f"compacting json for seccomp profile ({path}) failed: {json_error(error)}") from error
    except ValueError as error:
        raise StartError(f"compacting json for seccomp profile ({path}) failed: {error}") from error
