"""What the configuration says for containers that say nothing themselves."""

from pathlib import Path

import msgspec

from gantry.daemon.config import Config
from gantry.errors import InvalidArgument
from gantry.model import log_options
from gantry.model.container import HostConfig, LogConfig, Ulimit
from gantry.model.remap import refusal

LOG_DRIVERS = log_options.DRIVERS
_PROFILE_LIMIT = 1 << 20

# Where distributions keep their bundle of certificate authorities.
_CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class ContainerDefaults:
    """Fills a container's host configuration; made once, for it reads the seccomp profile."""

    def __init__(self, config: Config) -> None:
        if config.log_driver not in LOG_DRIVERS:
            raise InvalidArgument(f"logger: no log driver named '{config.log_driver}' is registered")
        self._config = config
        self._shm_size = config.shm_size
        self._security: list[str] = ["no-new-privileges"] if config.no_new_privileges else []
        if config.seccomp_profile not in ("", "builtin"):
            self._security.append(f"seccomp={_profile(config.seccomp_profile)}")

    def __call__(self, host: HostConfig) -> HostConfig:
        config = self._config
        if config.userns_remap and (reason := refusal(host)):
            raise InvalidArgument(reason)
        return msgspec.structs.replace(
            host,
            log_config=self._log(host.log_config),
            shm_size=host.shm_size or self._shm_size,
            ipc_mode=host.ipc_mode or config.default_ipc_mode,
            cgroupns_mode=host.cgroupns_mode or ("" if host.privileged else config.default_cgroupns_mode),
            cgroup_parent=host.cgroup_parent or config.cgroup_parent,
            ulimits=self._ulimits(host),
            security_opt=self._security_options(host),
        )

    def _log(self, asked: LogConfig) -> LogConfig:
        if asked.type and asked.type not in LOG_DRIVERS:
            raise InvalidArgument(f"logger: no log driver named '{asked.type}' is registered")
        if asked.type in ("", self._config.log_driver):
            return LogConfig(self._config.log_driver, {**self._config.log_opts, **(asked.config or {})})
        return asked

    def _ulimits(self, host: HostConfig) -> list[Ulimit] | None:
        if not self._config.default_ulimits:
            return host.ulimits
        own = {each.name: each for each in host.ulimits or ()}
        return list({**self._config.default_ulimits, **own}.values())

    def _security_options(self, host: HostConfig) -> list[str] | None:
        """The container's own options come last: they win."""
        if not self._security or host.privileged:
            return host.security_opt
        return [*self._security, *(host.security_opt or ())]


def _profile(path: str) -> str:
    if path == "unconfined":
        return path
    try:
        with Path(path).open("rb") as stream:
            return stream.read(_PROFILE_LIMIT).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"opening seccomp profile ({path}) failed: {error}") from error


def ca_bundle() -> str:
    """The host's bundle of certificate authorities, "" where there is none."""
    return next((path for path in _CA_BUNDLES if Path(path).is_file()), "")
