"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container."""

from pathlib import Path

import pytest

from gantry.errors import InvalidArgument
from gantry.model.container import Container, ContainerConfig, HostConfig
from gantry.network import files
from gantry.network.files import Resolver, ResolverPlan, resolver_plan
from gantry.network.settings import NetworkSettings


def container(hostname: str = "", domain: str = "", **host: object) -> Container:
    return Container(
        id="0b44d34855c3" + "f" * 52, name="c", created_at=0, image_id="", image_ref="", platform="", path="", args=(),
        config=ContainerConfig(hostname=hostname, domainname=domain), host_config=HostConfig(**host),  # type: ignore[arg-type]
        runtime="", driver="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("hostname", "domain", "names"),
    [
        ("", "", "0b44d34855c3"),
        ("hh", "", "hh"),
        ("hh", "exa.mple", "hh.exa.mple hh"),
        ("hh.dom", "", "hh.dom hh"),
    ],
)
def test_own_names(hostname: str, domain: str, names: str) -> None:
    assert files.own_names(container(hostname, domain)) == names


def test_resolv_conf_is_read_as_the_resolver_reads_it() -> None:
    text = (
        "# c\nnameserver 1.1.1.1 # x\nnameserver 2.2.2.2\nsearch a b\ndomain c\noptions ndots:2\noptions rotate ; y\n"
    )
    assert Resolver.parse(text) == Resolver(("1.1.1.1", "2.2.2.2"), ("c",), ("ndots:2", "rotate"))


def plan(base: Resolver, **asked: tuple[str, ...]) -> ResolverPlan:
    return ResolverPlan(base, base, "/etc/resolv.conf", **asked)


def direct(base: Resolver, *, host: bool = False, **asked: tuple[str, ...]) -> Resolver:
    return Resolver.parse(plan(base, **asked).render(internal=False, host_network=host))


def test_unreachable_servers_are_left_out() -> None:
    base = Resolver(("127.0.0.53", "::1", "192.0.2.53", "fd00::1"), ("corp",), ("edns0",))
    assert direct(base) == Resolver(("192.0.2.53",), ("corp",), ("edns0",))
    assert direct(base, host=True) == base
    assert direct(Resolver(("127.0.0.1",))).nameservers == ("8.8.8.8", "8.8.4.4")
    assert direct(Resolver()).nameservers == ("8.8.8.8", "8.8.4.4")


def test_each_part_can_be_overridden() -> None:
    base = Resolver(("192.0.2.53",), ("corp",), ("edns0",))
    made = direct(base, nameservers=("127.0.0.1", "9.9.9.9"), search=("x.y",), options=("ndots:3",))
    assert made == Resolver(("127.0.0.1", "9.9.9.9"), ("x.y",), ("ndots:3",))
    assert direct(base, search=(".",)).search == ()


def test_behind_systemds_stub_the_real_servers_are_asked_directly() -> None:
    stub, real = Resolver(("127.0.0.53",), (), ("edns0",)), Resolver(("192.0.2.1",))
    made = ResolverPlan(stub, real, "/etc/resolv.conf")
    assert Resolver.parse(made.render(internal=False)).nameservers == ("192.0.2.1",)
    assert made.upstreams() == (("127.0.0.53", True),)


def test_our_own_resolver() -> None:
    text = plan(Resolver(("127.0.0.53", "192.0.2.53", "not-an-address"), ("corp",), ("edns0",))).render(internal=True)
    assert Resolver.parse(text) == Resolver(("127.0.0.11",), ("corp",), ("edns0", "ndots:0"))
    assert "# ExtServers: [host(127.0.0.53) host(192.0.2.53)]\n# Overrides: []\n" in text


def test_servers_behind_our_own_resolver() -> None:
    assert plan(Resolver()).upstreams() == (("8.8.8.8", True), ("8.8.4.4", True))
    asked = plan(Resolver(("192.0.2.53",)), nameservers=("127.0.0.1",), options=("ndots:2",))
    assert asked.upstreams() == (("127.0.0.1", False),)
    assert asked.ndots_given
    assert Resolver.parse(asked.render(internal=True)).options == ("ndots:2",)
    assert "# ExtServers: [127.0.0.1]\n# Overrides: [nameservers options]\n" in asked.render(internal=True)
    assert not plan(Resolver()).ndots_given


def test_resolv_conf_changes_while_running_unless_it_was_edited(tmp_path: Path) -> None:
    made = plan(Resolver(("192.0.2.53",)))
    path = tmp_path / "resolv.conf"
    files.write(path, made.render(internal=False))
    files.use_resolver(tmp_path, made)
    assert Resolver.parse(path.read_text()).nameservers == ("127.0.0.11",)
    path.write_text("nameserver 1.2.3.4\n")
    files.use_resolver(tmp_path, made)
    assert path.read_text() == "nameserver 1.2.3.4\n"


def test_extra_hosts() -> None:
    found = files.extra_hosts(["a:1.2.3.4", "b=::1", "c:[::2]", "d:host-gateway"], "172.17.0.1")
    assert found == [("1.2.3.4", "a"), ("::1", "b"), ("::2", "c"), ("172.17.0.1", "d")]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("x", 'bad format for add-host: "x"'),
        (":1.2.3.4", 'bad format for add-host: ":1.2.3.4"'),
        ("y:", 'invalid IP address in add-host: ""'),
        ("y:1.2.3", 'invalid IP address in add-host: "1.2.3"'),
        ("a\nb:1.2.3.4", "bad format"),
    ],
)
def test_bad_extra_hosts(entry: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        files.extra_hosts([entry], "172.17.0.1")


def test_the_three_files(tmp_path: Path) -> None:
    wanted = container("hh", dns=["9.9.9.9"], extra_hosts=["gw:host-gateway"])
    directory = tmp_path / "c"
    settings = NetworkSettings(dns=("1.1.1.1",), dns_search=("d.e",))
    made = files.make(
        directory,
        wanted,
        resolver_plan(wanted, settings),
        "172.17.0.1",
        host_network=False,
        internal=False,
        special="172.17.0.1",
    )
    hosts, hostname, resolv = (Path(each) for each in made)
    assert hostname.read_text() == "hh\n"
    assert Resolver.parse(resolv.read_text()).nameservers == ("9.9.9.9",)
    assert Resolver.parse(resolv.read_text()).search == ("d.e",)
    lines = hosts.read_text().splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-2:] == ["172.17.0.1\tgw", "172.17.0.1\thost.docker.internal gateway.docker.internal"]
    assert {path.stat().st_mode & 0o777 for path in (hosts, hostname, resolv)} == {0o644}


def test_the_hosts_own_names_can_be_overridden(tmp_path: Path) -> None:
    wanted = container("hh", extra_hosts=["host.docker.internal:1.2.3.4"])
    plan = resolver_plan(wanted, NetworkSettings())
    files.make(tmp_path, wanted, plan, "", host_network=False, internal=False, special="172.17.0.1")
    lines = (tmp_path / "hosts").read_text().splitlines()
    assert lines[-2:] == ["1.2.3.4\thost.docker.internal", "172.17.0.1\tgateway.docker.internal"]


def test_a_container_on_the_hosts_network_has_the_hosts_names(tmp_path: Path) -> None:
    wanted = container("hh")
    files.make(tmp_path, wanted, resolver_plan(wanted, NetworkSettings()), "", host_network=True, internal=False)
    assert (tmp_path / "hosts").read_text().strip() == Path("/etc/hosts").read_text().strip()


def test_lines_come_and_go_in_place(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    files.write(path, files.hosts_text([]))
    inode = path.stat().st_ino
    files.add_line(path, "172.17.0.2\tme")
    files.add_line(path, "172.18.0.2\tme")
    files.remove_address(path, "172.17.0.2")
    assert path.stat().st_ino == inode
    assert path.read_text().splitlines()[-1] == "172.18.0.2\tme"
    assert "172.17.0.2" not in path.read_text()


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "hosts").symlink_to(victim)
    for action in (lambda: files.write(tmp_path / "hosts", "x"), lambda: files.add_line(tmp_path / "hosts", "x")):
        with pytest.raises(OSError, match="symbolic links"):
            action()
    assert victim.read_text() == "precious"
