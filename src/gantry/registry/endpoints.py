"""Where a registry is: addresses, mirrors, TLS and proxies."""

import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.reference import DEFAULT_DOMAIN
from gantry.registry.settings import RegistryRule, RegistrySettings

HUB = "registry-1.docker.io"
HUB_NAMES = frozenset({DEFAULT_DOMAIN, "index.docker.io", HUB})
_LOOPBACK = ("127.0.0.0/8", "::1/128")


class Endpoint(msgspec.Struct, frozen=True):
    """One place to ask. `url` has no slash at its end; `mirror` ones are for pulling, and get no credentials.

    `namespace` is the registry that a mirror stands for. An `insecure` one may be spoken to in plain text.
    """

    url: str
    registry: str
    mirror: bool = False
    insecure: bool = False

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


class Endpoints:
    """The endpoints of each registry, with the settings applied."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._networks = [
            *(ipaddress.ip_network(text) for text in _LOOPBACK),
            *(network for text in settings.insecure if (network := _network(text)) is not None),
        ]
        self._insecure = {text.partition("://")[2] or text for text in settings.insecure if _network(text) is None}

    def of(self, registry: str, *, push: bool = False) -> list[Endpoint]:
        """Mirrors first (unless for pushing), then the registry itself. Blocking where a name must be looked up."""
        name = DEFAULT_DOMAIN if registry in HUB_NAMES else registry
        rule = self._settings.rules.get(name) or self._settings.rules.get("*") or RegistryRule()
        found = []
        if not push:
            for mirror in rule.mirrors:
                url = mirror.rstrip("/")
                found.append(Endpoint(url, name, mirror=True, insecure=self.is_insecure(urlsplit(url).netloc)))
        if rule.server:
            host = urlsplit(rule.server).netloc
            found.append(Endpoint(rule.server.rstrip("/"), name, insecure=self.is_insecure(host)))
            return found
        host = HUB if name == DEFAULT_DOMAIN else name
        insecure = self.is_insecure(host)
        found.append(Endpoint(f"https://{host}", name, insecure=insecure))
        if insecure:
            found.append(Endpoint(f"http://{host}", name, insecure=True))
        return found

    def is_insecure(self, netloc: str) -> bool:
        """Whether the user, or its being on this very machine, allows to do without TLS."""
        if netloc in self._insecure:
            return True
        host = urlsplit(f"//{netloc}").hostname or ""
        if host in self._insecure:
            return True
        for address in _addresses(host):
            if any(address in network for network in self._networks if network.version == address.version):
                return True
        return False

    def tls(self, netloc: str, *, insecure: bool) -> ssl.SSLContext:
        """TLS for one host, with what `certs.d` has for it. Blocking; raises InvalidArgument for bad files."""
        context = ssl.create_default_context()
        for directory in self._settings.certificates:
            _load(context, directory / netloc)
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def _addresses(host: str) -> Iterable[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]


def _load(context: ssl.SSLContext, directory: Path) -> None:
    """Docker's layout of a host's directory: `*.crt` are authorities, `NAME.cert` and `NAME.key` are ours."""
    try:
        names = sorted(path.name for path in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InvalidArgument(f"open {directory}: {(error.strerror or str(error)).lower()}") from error
    for name in names:
        path = directory / name
        try:
            if name.endswith(".crt"):
                context.load_verify_locations(path)
            elif name.endswith(".cert"):
                key = path.with_suffix(".key")
                if not key.exists():
                    raise InvalidArgument(
                        f"missing key {key.name} for client certificate {name}. CA certificates must use the "
                        "extension .crt"
                    )
                context.load_cert_chain(path, key)
            elif name.endswith(".key") and f"{name.removesuffix('.key')}.cert" not in names:
                raise InvalidArgument(f"missing client certificate {name.removesuffix('.key')}.cert for key {name}")
        except (OSError, ssl.SSLError) as error:
            raise InvalidArgument(f"{path}: {error.strerror or error}") from error


class Proxies:
    """Which proxy a URL goes through (the environment's rules, as Go reads them)."""

    def __init__(self, settings: RegistrySettings) -> None:
        given = settings.proxies
        self._http = given.get("http-proxy") or _environment("HTTP_PROXY")
        self._https = given.get("https-proxy") or _environment("HTTPS_PROXY")
        spared = given.get("no-proxy") or _environment("NO_PROXY")
        self._spared = [item.strip().lower() for item in spared.split(",") if item.strip()]

    def of(self, url: str) -> str | None:
        """The proxy's URL, None for none. Loopback is never asked for through one."""
        parts = urlsplit(url)
        proxy = self._https if parts.scheme == "https" else self._http
        if not proxy or self._is_spared(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    def _is_spared(self, host: str, port: int) -> bool:
        host = host.lower().rstrip(".")
        if host == "localhost":
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            address = None
        if address is not None and address.is_loopback:
            return True
        return any(_spares(item, host, port, address) for item in self._spared)


def _spares(item: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if item == "*":
        return True
    if (network := _network(item)) is not None:
        return address is not None and address.version == network.version and address in network
    name, colon, only = item.rpartition(":")
    if colon and only.isdecimal() and "]" not in only:
        if int(only) != port:
            return False
        item = name
    item = item.strip("[]")
    if item.startswith("*."):
        item = item[1:]
    if item.startswith("."):
        return host.endswith(item)
    return host == item or host.endswith(f".{item}")


def _environment(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower()) or ""
