"""What a build is asked for, besides its context."""

import msgspec

from gantry.model.container import HostConfig
from gantry.model.platform import Platform


class BuildOptions(msgspec.Struct, frozen=True):
    """`POST /build` after decoding. `build_args` with None have no value of their own.

    `auths` are X-Registry-Auth values by registry, `host_config` the limits and hosts of RUN steps.
    `contexts` are the named ones (see `context.named`). `secrets` are by id, `agents` are sockets of SSH agents on the
    daemon's host by id.
    """

    tags: tuple[str, ...] = ()
    dockerfile: str = ""
    remote: str = ""
    target: str = ""
    build_args: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    no_cache: bool = False
    no_cache_stages: tuple[str, ...] = ()
    pull: bool = False
    quiet: bool = False
    remove: bool = True
    force_remove: bool = False
    platform: Platform | None = None
    network: str = "default"
    host_config: HostConfig = HostConfig()
    host_ca: bool = False
    auths: dict[str, str] = {}
    contexts: dict[str, str] = {}
    secrets: dict[str, bytes] = {}
    agents: dict[str, str] = {}
