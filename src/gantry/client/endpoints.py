"""Which daemon to talk to: -H, DOCKER_HOST, --context, DOCKER_CONTEXT, the current context, the default sockets."""

from __future__ import annotations

import os

from gantry.client.errors import EndpointError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    class GlobalFlags(Protocol):
        """The global flags, as the command line parsed them."""

        changed: set[str]

        def string(self, name: str) -> str: ...

        def strings(self, name: str) -> list[str]: ...

        def boolean(self, name: str) -> bool: ...


DOCKER_SOCKET = "/var/run/docker.sock"
GANTRY_SOCKET = "/run/gantry/gantry.sock"


class TLSSettings:
    """Paths of CA bundle, certificate and key, "" for none; `verify` checks the server's certificate."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, ca: str, cert: str, key: str, *, verify: bool) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


class Endpoint:
    """One daemon's address: `url` as the user knows it.

    `default` where nobody chose it: the client then tries Gantry's own socket too, and may start a daemon.
    """

    __slots__ = ("address", "default", "hostname", "port", "scheme", "tls", "url")

    def __init__(self, url: str, tls: TLSSettings | None = None, *, default: bool = False) -> None:
        self.url = url
        self.tls = tls
        self.default = default
        self.scheme, separator, self.address = url.partition("://")
        if not separator:
            self.scheme, self.address = "tcp", url
        if not self.address:
            raise EndpointError(f"unable to parse docker host `{url}`")
        self.hostname, self.port = "", 0
        if self.scheme in ("tcp", "http", "https"):
            self._split_address()
        elif self.scheme == "fd":
            raise EndpointError(f"unable to resolve docker endpoint: protocol not available: {url}")
        elif self.scheme not in ("unix", "ssh"):
            raise EndpointError(f"unable to resolve docker endpoint: protocol {self.scheme} is not supported: {url}")

    def _split_address(self) -> None:
        place = self.address.partition("/")[0]
        host, colon, port = place.rpartition(":")
        if not colon or place.endswith("]"):
            host, port = place, "2376" if self.tls else "2375"
        if not port.isdecimal() or int(port) > 65535:
            raise EndpointError(f"invalid bind address ({self.url}): invalid port {port!r}")
        self.hostname, self.port = host.strip("[]") or "localhost", int(port)

    @property
    def http_host(self) -> str:
        """The Host header's value."""
        return self.address if self.scheme in ("tcp", "http", "https") else "api.moby.localhost"

    def ssh_command(self) -> list[str]:
        """The command whose standard streams are the daemon's socket."""
        target, slash, path = self.address.partition("/")
        user, at, host = target.rpartition("@")
        host, colon, port = host.partition(":")
        if not host or host[0] == "-" or user[:1] == "-":
            raise EndpointError(f"ssh host connection is not valid: {self.url}")
        remote = ["gantry", "system", "dial-stdio"]
        if slash and path:
            remote[1:1] = ["--host", "unix:///" + path]
        return [
            "ssh",
            *(["-l", user] if at else []),
            *(["-p", port] if colon else []),
            *("-o", "ConnectTimeout=30", "-T", "--", host),
            *remote,
        ]


def resolve(flags: GlobalFlags, environ: Mapping[str, str], config_dir: str, config: Mapping[str, Any]) -> Endpoint:
    """The endpoint that flags, environment and configuration choose; raises EndpointError."""
    hosts = flags.strings("host")
    context = flags.string("context")
    if hosts and context:
        raise EndpointError("conflicting options: cannot specify both --host and --context")
    if len(hosts) > 1:
        raise EndpointError("Failed to initialize: unable to resolve docker endpoint: Specify only one -H")
    name = current_context(flags, environ, config)
    if name != "default":
        from gantry.client.contexts import ContextStore

        return ContextStore(config_dir).endpoint(name)
    host = (hosts[0] if hosts else environ.get("DOCKER_HOST", "")).strip()
    tls = _tls_settings(flags, environ, config_dir)
    if not host:
        if tls is not None:
            return Endpoint("tcp://localhost:2376", tls)
        return Endpoint("unix://" + DOCKER_SOCKET, default=True)
    return Endpoint(host, tls)


def current_context(flags: GlobalFlags, environ: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """The chosen context's name: --context, "default" with -H or DOCKER_HOST, DOCKER_CONTEXT, config.json."""
    if flags.string("context"):
        return flags.string("context")
    if flags.strings("host") or environ.get("DOCKER_HOST"):
        return "default"
    return environ.get("DOCKER_CONTEXT") or str(config.get("currentContext") or "default")


def _tls_settings(flags: GlobalFlags, environ: Mapping[str, str], config_dir: str) -> TLSSettings | None:
    verify = flags.boolean("tlsverify") if "tlsverify" in flags.changed else bool(environ.get("DOCKER_TLS_VERIFY"))
    if not (verify or flags.boolean("tls") or "tlsverify" in flags.changed or environ.get("DOCKER_TLS")):
        return None
    directory = environ.get("DOCKER_CERT_PATH") or config_dir
    paths = []
    for flag, name in (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem")):
        path = flags.string(flag)
        if not path:
            path = f"{directory}/{name}"
            if not os.path.exists(path):
                path = ""
        elif not os.path.exists(path):
            raise EndpointError(f"could not read {flag} {path}: no such file or directory")
        paths.append(path)
    return TLSSettings(paths[0], paths[1], paths[2], verify=verify)
