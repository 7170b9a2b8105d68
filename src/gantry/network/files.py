"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: their contents (hosts(5), resolv.conf(5)).

The files lie in the container's own directory and are bind-mounted; later changes are written into the same
inode, so that a running container sees them.
"""

import ipaddress
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from gantry.errors import Internal, InvalidArgument
from gantry.model.container import Container
from gantry.model.identity import short_id
from gantry.network.settings import FALLBACK_NAMESERVERS, NetworkSettings

_LOCAL_LINES = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::\tip6-localnet",
    "ff00::\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)
_RESOLV_CONF = Path("/etc/resolv.conf")
_SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")  # the real servers behind the stub at 127.0.0.53
_LIMIT = 1 << 16  # bytes of the host's resolv.conf that are looked at


class Resolver(msgspec.Struct, frozen=True):
    """What resolv.conf says."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Resolver":
        """The last `search` or `domain` line counts, `nameserver` and `options` lines add up."""
        nameservers: list[str] = []
        search: tuple[str, ...] = ()
        options: list[str] = []
        for line in text.splitlines():
            word, *values = line.split("#", 1)[0].split(";", 1)[0].split() or [""]
            if word == "nameserver" and values:
                nameservers.append(values[0])
            elif word in ("search", "domain"):
                search = tuple(values)
            elif word == "options":
                options += values
        return cls(tuple(nameservers), search, tuple(options))

    def render(self) -> str:
        lines = ["# Made by Gantry for this container; it is written anew at every start."]
        lines += [f"nameserver {each}" for each in self.nameservers]
        if self.search:
            lines.append("search " + " ".join(self.search))
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "\n".join(lines) + "\n"


def host_resolver(*, stub_allowed: bool) -> Resolver:
    """The host's resolver; where it is systemd's stub, which no container can reach, the servers behind it."""
    found = Resolver.parse(_read(_RESOLV_CONF))
    if not stub_allowed and found.nameservers and all(each == "127.0.0.53" for each in found.nameservers):
        behind = Resolver.parse(_read(_SYSTEMD_RESOLV_CONF))
        if behind.nameservers:
            return behind
    return found


def container_resolver(
    base: Resolver,
    *,
    host_network: bool,
    nameservers: Sequence[str],
    search: Sequence[str],
    options: Sequence[str],
) -> Resolver:
    """What a container gets: the host's settings without servers it cannot reach, each part overridden as asked."""
    servers = tuple(nameservers) or base.nameservers
    if not nameservers and not host_network:
        servers = tuple(each for each in servers if _reachable(each)) or FALLBACK_NAMESERVERS
    domains = tuple(search) or base.search
    if domains == (".",):
        domains = ()
    return Resolver(servers, domains, tuple(options) or base.options)


def _reachable(server: str) -> bool:
    """Whether a container with IPv4 alone can ask this server."""
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback


def extra_hosts(entries: Iterable[str], gateway: str) -> list[tuple[str, str]]:
    """(address, name) for `--add-host` entries, `name:address` or `name=address`; raises InvalidArgument.

    `host-gateway` stands for `gateway`.
    """
    found: list[tuple[str, str]] = []
    for entry in entries:
        name, separator, address = entry.partition("=" if "=" in entry else ":")
        if not separator or not name or any(c.isspace() for c in name):
            raise InvalidArgument(f'bad format for add-host: "{entry}"')
        if address == "host-gateway":
            if not gateway:
                raise InvalidArgument("unable to derive the IP value for host-gateway")
            address = gateway
        address = address.removeprefix("[").removesuffix("]")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidArgument(f'invalid IP address in add-host: "{address}"') from None
        found.append((address, name))
    return found


def own_names(container: Container) -> str:
    """The names that stand behind the container's own address: the full name first."""
    hostname = container.config.hostname or short_id(container.id)
    if container.config.domainname:
        return f"{hostname}.{container.config.domainname} {hostname}"
    head, dot, _ = hostname.partition(".")
    return f"{hostname} {head}" if dot else hostname


def hosts_text(extra: Iterable[tuple[str, str]]) -> str:
    return "\n".join([*_LOCAL_LINES, *(f"{address}\t{name}" for address, name in extra)]) + "\n"


def make(
    directory: Path, container: Container, settings: NetworkSettings, gateway: str, *, host_network: bool
) -> tuple[str, str, str]:
    """Write the three files into the container's directory; their paths: hosts, hostname, resolv.conf.

    Raises InvalidArgument for a bad `--add-host`, Internal where the disk fails.
    """
    wanted = container.host_config
    resolver = container_resolver(
        host_resolver(stub_allowed=host_network),
        host_network=host_network,
        nameservers=wanted.dns or settings.dns,
        search=wanted.dns_search or settings.dns_search,
        options=wanted.dns_options or settings.dns_options,
    )
    hosts = hosts_text(extra_hosts(wanted.extra_hosts or (), gateway))
    hostname = (container.config.hostname or short_id(container.id)) + "\n"
    paths = (directory / "hosts", directory / "hostname", directory / "resolv.conf")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, (hosts, hostname, resolver.render()), strict=True):
            write(path, text)
    except OSError as error:
        raise Internal(f"cannot write {error.filename or directory}: {error.strerror}") from error
    return str(paths[0]), str(paths[1]), str(paths[2])


def write(path: Path, text: str) -> None:
    """Write a file anew (mode 0644), keeping its inode."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o644)
        file.write(text)


def add_line(path: Path, line: str) -> None:
    """Append a line to a hosts file; nothing happens where the file is gone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(line + "\n")


def remove_address(path: Path, address: str) -> None:
    """Take an address's lines out of a hosts file, in place."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return
    kept = [line for line in text.splitlines(keepends=True) if line.split("\t", 1)[0] != address]
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(kept))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT).decode(errors="replace")
    except OSError:
        return ""
