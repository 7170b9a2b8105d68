"""What the daemon's configuration says about registries."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

CERTIFICATES = (Path("/etc/gantry/certs.d"), Path("/etc/docker/certs.d"))


class RegistryRule(msgspec.Struct, frozen=True):
    """`server` takes the place of a registry's own address; `mirrors` are asked first when pulling. All are URLs."""

    mirrors: tuple[str, ...] = ()
    server: str = ""


class RegistrySettings(msgspec.Struct, frozen=True):
    """`rules` are by registry (`docker.io`, `quay.io`, `localhost:5000`); `*` stands for those without one.

    `insecure` are hosts and networks that may be used without TLS or with certificates that nobody vouches for.
    `proxies` has the keys `http-proxy`, `https-proxy` and `no-proxy`; what is missing comes from the environment.
    `certificates` are directories of `<host[:port]>/{*.crt,*.cert,*.key}`.
    """

    rules: Mapping[str, RegistryRule] = {}
    insecure: tuple[str, ...] = ()
    proxies: Mapping[str, str] = {}
    certificates: tuple[Path, ...] = CERTIFICATES
    downloads: int = 3
    uploads: int = 5
    attempts: int = 5
