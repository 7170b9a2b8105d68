"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container."""

from pathlib import Path

import pytest

from gantry.errors import InvalidArgument
from gantry.model.container import Container, ContainerConfig, HostConfig
from gantry.network import files
from gantry.network.files import Resolver, container_resolver
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
    assert Resolver.parse(Resolver.parse(text).render()) == Resolver.parse(text)


def make(base: Resolver, *, host: bool = False, **asked: tuple[str, ...]) -> Resolver:
    wanted = {"nameservers": (), "search": (), "options": (), **asked}
    return container_resolver(base, host_network=host, **wanted)


def test_unreachable_servers_are_left_out() -> None:
    base = Resolver(("127.0.0.53", "::1", "192.0.2.53", "fd00::1"), ("corp",), ("edns0",))
    assert make(base) == Resolver(("192.0.2.53",), ("corp",), ("edns0",))
    assert make(base, host=True) == base
    assert make(Resolver(("127.0.0.1",))).nameservers == ("8.8.8.8", "8.8.4.4")
    assert make(Resolver()).nameservers == ("8.8.8.8", "8.8.4.4")


def test_each_part_can_be_overridden() -> None:
    base = Resolver(("192.0.2.53",), ("corp",), ("edns0",))
    made = make(base, nameservers=("127.0.0.1", "9.9.9.9"), search=("x.y",), options=("ndots:3",))
    assert made == Resolver(("127.0.0.1", "9.9.9.9"), ("x.y",), ("ndots:3",))
    assert make(base, search=(".",)).search == ()


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
    hosts, hostname, resolv = (
        Path(each) for each in files.make(directory, wanted, settings, "172.17.0.1", host_network=False)
    )
    assert hostname.read_text() == "hh\n"
    assert Resolver.parse(resolv.read_text()).nameservers == ("9.9.9.9",)
    assert Resolver.parse(resolv.read_text()).search == ("d.e",)
    lines = hosts.read_text().splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-1] == "172.17.0.1\tgw"
    assert {path.stat().st_mode & 0o777 for path in (hosts, hostname, resolv)} == {0o644}


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
