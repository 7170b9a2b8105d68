import json
from pathlib import Path
from typing import Any

import pytest

from gantry.cli import create_request
from gantry.cli.errors import CommandError, StartError
from gantry.cli.flags import FlagError, parse
from gantry.cli.opts_container import FLAGS


def body(*words: str, **environ: str) -> dict[str, Any]:
    return create_request.build(parse(FLAGS, [*words, "busybox"], interspersed=False), environ)


def host(*words: str) -> dict[str, Any]:
    return dict(body(*words)["HostConfig"])


def test_the_plainest_request() -> None:
    arguments = parse(FLAGS, ["busybox", "echo", "-n", "hi"], interspersed=False)
    made = create_request.build(arguments, {})
    assert (made["Image"], made["Cmd"]) == ("busybox", ["echo", "-n", "hi"])
    assert (made["AttachStdin"], made["AttachStdout"], made["AttachStderr"]) == (False, True, True)
    assert "Entrypoint" not in made
    assert made["HostConfig"]["NetworkMode"] == "default"
    assert made["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert made["NetworkingConfig"] == {"EndpointsConfig": {"default": {}}}


def test_streams() -> None:
    made = body("-it")
    assert (made["OpenStdin"], made["StdinOnce"], made["AttachStdin"], made["Tty"]) == (True, True, True, True)
    made = body("-a", "STDERR")
    assert (made["AttachStdin"], made["AttachStdout"], made["AttachStderr"]) == (False, False, True)
    detached = create_request.build(parse(FLAGS, ["-i", "x"], interspersed=False), {}, detach=True)
    assert (detached["OpenStdin"], detached["StdinOnce"], detached["AttachStdout"]) == (True, False, False)


def test_environment_and_labels(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=1\nHOME\nGONE\nB=x=y \n")
    made = body("--env-file", str(file), "-e", "A=2", "-e", "USER", "-e", "UNSET", HOME="/root", USER="me")
    assert made["Env"] == ["A=1", "HOME=/root", "B=x=y ", "A=2", "USER=me", "UNSET"]
    file.write_text("k=v\nlonely\n")
    assert body("--label-file", str(file), "-l", "a", "-l", "b=c=d")["Labels"] == {"k": "v", "a": "", "b": "c=d"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A B=1", "variable 'A B' contains whitespaces"),
        ("=1", "no variable name on line '=1'"),
        ("\udcff=1", "invalid utf8"),
    ],
)
def test_bad_environment_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "env"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StartError, match=message):
        body("--env-file", str(file))


@pytest.mark.parametrize(
    ("publish", "bindings"),
    [
        ("80", {"80/tcp": [("", "")]}),
        ("8080:80", {"80/tcp": [("", "8080")]}),
        ("127.0.0.1:53:53/udp", {"53/udp": [("127.0.0.1", "53")]}),
        ("127.0.0.1::99", {"99/tcp": [("127.0.0.1", "")]}),
        ("[::1]:80:80", {"80/tcp": [("::1", "80")]}),
        ("9000-9001:80-81", {"80/tcp": [("", "9000")], "81/tcp": [("", "9001")]}),
        ("8000-8010:90", {"90/tcp": [("", "8000-8010")]}),
        ("published=8080,target=80,protocol=udp", {"80/udp": [("", "8080")]}),
    ],
)
def test_ports(publish: str, bindings: dict[str, list[tuple[str, str]]]) -> None:
    made = body("-p", publish)
    expected = {
        port: [{"HostIp": address, "HostPort": host_port} for address, host_port in some]
        for port, some in bindings.items()
    }
    assert made["HostConfig"]["PortBindings"] == expected
    assert set(made["ExposedPorts"]) == set(bindings)


def test_expose() -> None:
    assert set(body("--expose", "80", "--expose", "90-92/udp")["ExposedPorts"]) == {
        "80/tcp", "90/udp", "91/udp", "92/udp",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "a"], "invalid containerPort: a"),
        (["-p", "a:80"], "invalid hostPort: a"),
        (["-p", "80-81:80-82"], "invalid ranges specified for container and host Ports: 80-82 and 80-81"),
        (["-p", "80/foo"], "invalid proto: foo"),
        (["-p", "1.2.3:80:80"], "invalid IP address: 1.2.3"),
        (["-p", ""], "no port specified: <empty>"),
        (["-p", "99999:80"], "invalid hostPort: 99999"),
        (["-p", "target=80,foo"], "invalid publish opts format (should be name=value but got 'foo')"),
        (["--expose", "80:80"], "invalid port format for --expose: 80:80"),
        (["--expose", "92-90"], "invalid range format for --expose: 92-90"),
        (["-v", "/a::/b"], "invalid spec: /a::/b: empty section between colons"),
        (["-v", "/a:/b:ro:x"], "invalid spec: /a:/b:ro:x: too many colons"),
        (["-v", ""], "invalid empty volume spec"),
        (["--network", "a", "--network", "a"], 'network "a" is specified multiple times'),
        (["--network", "a", "--network", "host"], "cannot attach both user-defined and non-user-defined"),
        (
            ["--network", "name=a,ip=1.2.3.4", "--ip", "1.2.3.5"],
            "cannot specify both --ip and per-network IPv4 address",
        ),
        (["--network-alias", "x"], "network-scoped aliases are only supported for user-defined networks"),
        (["--network", ""], "no name set for network"),
        (["--mac-address", "zz"], "zz is not a valid mac address"),
        (["--device", "a"], "a is not an absolute path"),
        (["--device", "/dev/a:/dev/b:x"], "bad mode specified: x"),
        (["--device", ""], "bad format for path: "),
        (["--security-opt", "foo"], 'Invalid --security-opt: "foo"'),
        (["--security-opt", "seccomp=/none"], "opening seccomp profile (/none) failed: open /none: no such file"),
        (["--log-driver", "none", "--log-opt", "a=b"], "invalid logging opts for driver none"),
        (["--restart", "on-failure:x"], "invalid restart policy format: maximum retry count must be an integer"),
        (["--restart", ":1"], "invalid restart policy format: no policy provided before colon"),
        (["--restart", "always", "--rm"], "conflicting options: cannot specify both --restart and --rm"),
        (["--memory-swappiness", "101"], "invalid value: 101. Valid memory swappiness range is 0-100"),
        (["--pid", "foo"], "--pid: invalid PID mode"),
        (["--uts", "foo"], "--uts: invalid UTS mode"),
        (["--cgroupns", "foo"], "--cgroupns: invalid CGROUP mode"),
        (["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck conflicts with --health-* options"),
        (["--health-retries", "-1"], "--health-retries cannot be negative"),
        (["--storage-opt", "x"], "invalid storage option"),
        (["--env-file", "/none"], "open /none: no such file or directory"),
    ],
)
def test_values_that_do_not_go_together(words: list[str], message: str) -> None:
    with pytest.raises(StartError) as caught:
        body(*words)
    assert message in caught.value.message
    assert caught.value.status == 125


def test_detach_and_attach() -> None:
    arguments = parse(FLAGS, ["-a", "stdout", "x"], interspersed=False)
    with pytest.raises(CommandError, match="cannot specify both --attach and --detach"):
        create_request.build(arguments, {}, detach=True)


def test_volumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    made = body("-v", "/a:/b", "-v", "vol:/c:ro", "-v", "/anon", "-v", "./rel:/d", "-v", ".:/e")
    assert made["HostConfig"]["Binds"] == ["/a:/b", "vol:/c:ro", f"{tmp_path}/rel:/d", f"{tmp_path}:/e"]
    assert made["Volumes"] == {"/anon": {}}
    assert host("--tmpfs", "/run", "--tmpfs", "/t:size=1m")["Tmpfs"] == {"/run": "", "/t": "size=1m"}


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("type=bind,src=/a,dst=/b,ro", {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}),
        ("source=v,target=/b", {"Type": "volume", "Source": "v", "Target": "/b"}),
        (
            "src=v,dst=/b,volume-nocopy,volume-label=a=b,volume-driver=d,volume-opt=o=1",
            {
                "Type": "volume",
                "Source": "v",
                "Target": "/b",
                "VolumeOptions": {
                    "NoCopy": True,
                    "Labels": {"a": "b"},
                    "DriverConfig": {"Name": "d", "Options": {"o": "1"}},
                },
            },
        ),
        (
            "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}},
        ),
        ('type=bind,"src=/a,b",dst=/b', {"Type": "bind", "Source": "/a,b", "Target": "/b"}),
    ],
)
def test_mounts(text: str, mount: dict[str, object]) -> None:
    assert host("--mount", text)["Mounts"] == [mount]


def test_networks() -> None:
    made = body("--network", "name=a,alias=x,ip=1.2.3.4,driver-opt=k=v,gw-priority=5", "--network", "b")
    assert made["HostConfig"]["NetworkMode"] == "a"
    assert made["NetworkingConfig"]["EndpointsConfig"] == {
        "a": {"Aliases": ["x"], "DriverOpts": {"k": "v"}, "GwPriority": 5, "IPAMConfig": {"IPv4Address": "1.2.3.4"}},
        "b": {},
    }
    made = body("--network", "a", "--ip", "1.2.3.4", "--network-alias", "y", "--mac-address", "02:42:ac:11:00:02")
    assert made["NetworkingConfig"]["EndpointsConfig"]["a"] == {
        "Aliases": ["y"],
        "IPAMConfig": {"IPv4Address": "1.2.3.4"},
        "MacAddress": "02:42:ac:11:00:02",
    }


def test_resources() -> None:
    made = host("-m", "512m", "--cpus", "1.5", "--memory-swap", "-1", "--ulimit", "nproc=5:10", "--ulimit", "core=-1")
    assert (made["Memory"], made["NanoCpus"], made["MemorySwap"]) == (512 << 20, 1_500_000_000, -1)
    assert made["Ulimits"] == [{"Name": "core", "Soft": -1, "Hard": -1}, {"Name": "nproc", "Soft": 5, "Hard": 10}]
    made = host("--device-read-bps", "/dev/sda:1mb", "--blkio-weight-device", "/dev/sda:200", "--gpus", "all")
    assert made["BlkioDeviceReadBps"] == [{"Path": "/dev/sda", "Rate": 1 << 20}]
    assert made["BlkioWeightDevice"] == [{"Path": "/dev/sda", "Weight": 200}]
    assert made["DeviceRequests"] == [{"Count": -1, "Options": {}, "Capabilities": [["gpu"]]}]
    made = host("--device", "/dev/null:rw", "--device", "vendor.com/class=one")
    assert made["Devices"] == [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/null", "CgroupPermissions": "rw"}]
    assert made["DeviceRequests"] == [{"Driver": "cdi", "DeviceIDs": ["vendor.com/class=one"]}]


def test_security(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{ "defaultAction": "SCMP_ACT_ALLOW" }')
    made = host(
        "--security-opt", f"seccomp={profile}", "--security-opt", "no-new-privileges",
        "--security-opt", "systempaths=unconfined", "--security-opt", "apparmor:x", "--cap-add", "net_admin",
        "--cap-drop", "ALL",
    )  # fmt: skip
    assert made["SecurityOpt"] == ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}', "no-new-privileges", "apparmor:x"]
    assert (made["MaskedPaths"], made["ReadonlyPaths"]) == ([], [])
    assert (made["CapAdd"], made["CapDrop"]) == (["CAP_NET_ADMIN"], ["ALL"])


def test_health_and_stop() -> None:
    made = body("--health-cmd", "x", "--health-interval", "5s", "--health-retries", "3", "--stop-timeout", "0")
    assert made["Healthcheck"] == {"Test": ["CMD-SHELL", "x"], "Interval": 5 * 10**9, "Retries": 3}
    assert made["StopTimeout"] == 0
    assert body("--no-healthcheck")["Healthcheck"] == {"Test": ["NONE"]}
    assert body("--entrypoint", "")["Entrypoint"] == [""]
    assert host("--init=false")["Init"] is False


def test_host_ca_is_an_annotation() -> None:
    assert host("--host-ca", "--annotation", "a=b")["Annotations"] == {"a": "b", "io.gantry.host-ca": "true"}
    assert "Annotations" not in host()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mount", "type=bind,foo=1"], "unexpected key 'foo' in 'foo=1'"),
        (["--mount", "foo"], "invalid field 'foo' must be a key=value pair"),
        (["--mount", "type=tmpfs,dst=/x,volume-nocopy"], "cannot mix 'volume-*' options with mount type 'tmpfs'"),
        (["--mount", "type=bind,src=/a"], "target is required"),
        (["--ulimit", "nofile"], "invalid ulimit argument: nofile"),
        (["--ulimit", "foo=1"], "invalid ulimit type: foo"),
        (["--ulimit", "nofile=10:5"], "ulimit soft limit must be less than or equal to hard limit: 10 > 5"),
        (["--cpus", "x"], "failed to parse x as a rational number"),
        (["--cpus", "0.0000000001"], "value is too precise"),
        (["--attach", "foo"], "valid streams are STDIN, STDOUT and STDERR"),
        (["--add-host", "a"], 'bad format for add-host: "a"'),
        (["--add-host", "a:x"], 'invalid IP address in add-host: "x"'),
        (["--dns", "x"], "IP address is not correctly formatted: x"),
        (["--sysctl", "foo=1"], "sysctl 'foo=1' is not allowed"),
        (["--link", "a:b:c"], "bad format for links: a:b:c"),
        (["--gpus", "count=1,count=2"], "gpu request key 'count' can be specified only once"),
        (["--device-cgroup-rule", "x 1:3 rwm"], "invalid device cgroup format 'x 1:3 rwm'"),
        (["--blkio-weight-device", "/dev/sda:5"], "invalid weight for device: /dev/sda:5"),
        (["--network", "alias=b"], "network name/id is not specified"),
        (["-e", "=x"], "invalid environment variable: =x"),
        (["-l", "=x"], "invalid label '=x': empty name"),
    ],
)
def test_values_that_their_flag_refuses(words: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        body(*words)
    assert f"invalid argument {json.dumps(words[1])} for" in str(caught.value)
    assert str(caught.value).endswith(message)
