"""The daemon's configuration: one frozen object, made of `daemon.json` and the command line."""

import ipaddress
import re
from pathlib import Path
from typing import Any

import msgspec

from gantry.daemon.flags import CommandLine
from gantry.daemon.options import BY_KEY, REFUSED, WITHOUT_EFFECT
from gantry.errors import GantryError, InvalidArgument
from gantry.model.container import Ulimit
from gantry.model.instance import DEFAULT_DATA_ROOT, DEFAULT_EXEC_ROOT, Instance
from gantry.model.size import parse_bytes
from gantry.wire.errors import invalid_json

DEFAULT_CONFIG_FILE = Path("/etc/gantry/daemon.json")
RELOADABLE = (
    "debug", "labels", "live-restore", "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts",
    "shutdown-timeout", "default-stop-timeout", "insecure-registries", "registry-mirrors", "default-runtime",
)  # fmt: skip

_LEVELS = ("trace", "debug", "info", "warn", "error", "fatal", "panic")
_MISMATCH = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?([^`]*)`)?")
_GO_KINDS = {"str": "string", "int": "int", "bool": "bool", "array": "[]string", "object": "map[string]interface {}"}
_JSON_KINDS = {"str": "string", "int": "number", "float": "number"}
_CONFIG_LIMIT = 1 << 20


class RuntimeConfig(msgspec.Struct, frozen=True):
    """One entry of `runtimes`."""

    path: str = ""
    runtime_args: tuple[str, ...] = msgspec.field(default=(), name="runtimeArgs")
    runtime_type: str = msgspec.field(default="", name="runtimeType")
    options: dict[str, Any] | None = None


class AddressPool(msgspec.Struct, frozen=True):
    """One entry of `default-address-pools`: networks of prefix length `size` are cut from `base`."""

    base: str
    size: int


class RegistryConfig(msgspec.Struct, frozen=True):
    """One entry of `registries`, by the registry's name or `*`: URLs of mirrors, and of what stands in its place."""

    mirrors: tuple[str, ...] = ()
    server: str = ""


class Config(msgspec.Struct, frozen=True, rename="kebab"):
    """Docker's keys, with `_` for `-`, and `allow-insecure-tcp`, `host-ca`, `publish-policy`, `registries`."""

    # the daemon
    hosts: tuple[str, ...] = ()
    group: str = ""
    data_root: str = str(DEFAULT_DATA_ROOT)
    exec_root: str = str(DEFAULT_EXEC_ROOT)
    pidfile: str = ""
    debug: bool = False
    log_level: str = "info"
    log_format: str = "text"
    labels: tuple[str, ...] = ()
    live_restore: bool = False
    shutdown_timeout: int = 15
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    allow_insecure_tcp: bool = False
    # containers
    cgroup_parent: str = ""
    cdi_spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")
    default_cgroupns_mode: str = ""
    default_ipc_mode: str = "private"
    default_runtime: str = ""
    default_shm_size: str | int = 64 << 20
    default_stop_timeout: int = 10
    default_ulimits: dict[str, Ulimit] = {}
    exec_opts: tuple[str, ...] = ()
    host_ca: bool = False
    init: bool = False
    log_driver: str = "json-file"
    log_opts: dict[str, str] = {}
    no_new_privileges: bool = False
    runtimes: dict[str, RuntimeConfig] = {}
    seccomp_profile: str = "builtin"
    storage_driver: str = ""
    userns_remap: str = ""
    # networks
    bip: str = ""
    bip6: str = ""
    bridge: str = ""
    default_address_pools: tuple[AddressPool, ...] = ()
    default_gateway: str = ""
    default_gateway_v6: str = ""
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    firewall_backend: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    host_gateway_ips: tuple[str, ...] = ()
    icc: bool = True
    ip: str = "0.0.0.0"  # noqa: S104 - Docker's default for published ports
    ip_forward: bool = True
    ip_masq: bool = True
    ip6tables: bool = True
    iptables: bool = True
    ipv6: bool = False
    mtu: int = 1500
    publish_policy: str = "open"
    userland_proxy: bool = True
    # registries
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    registries: dict[str, RegistryConfig] = {}
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    proxies: dict[str, str] = {}
    # what was asked for and has no effect, one line each
    warnings: tuple[str, ...] = ()

    @property
    def instance(self) -> Instance:
        return Instance.of(Path(self.data_root), Path(self.exec_root))

    @property
    def pid_path(self) -> Path:
        return Path(self.pidfile) if self.pidfile else Path(self.exec_root) / "gantryd.pid"

    @property
    def shm_size(self) -> int:
        return parse_size(self.default_shm_size)


def load(line: CommandLine, default_file: Path = DEFAULT_CONFIG_FILE) -> Config:
    """Merge file and command line, and check the result. Raises InvalidArgument with Docker's words."""
    path = Path(line.config_file) if line.config_file else default_file
    from_file: dict[str, Any] = {}
    if line.config_file or path.exists():
        try:
            from_file = read_file(path)
            _refuse_conflicts(line.values, from_file)
            _convert(_nested(from_file))
            _check(_merge(line.values, from_file), merged=True)
        except GantryError as error:
            raise InvalidArgument(f"unable to configure the Docker daemon with file {path}: {error.message}") from error
    config = _merge(line.values, from_file)
    _check(config, merged=False)
    return config


def read_file(path: Path) -> dict[str, Any]:
    """The options of one `daemon.json`, flat; nulls are as if not there. Raises InvalidArgument."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_CONFIG_LIMIT)
    except OSError as error:
        raise InvalidArgument(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    if not data.strip():
        return {}
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid_json(error, data) from error
    if not isinstance(document, dict):
        found = {list: "array", str: "string", bool: "bool"}.get(type(document), "number")
        raise InvalidArgument(
            f"invalid JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if key == "proxies" and isinstance(value, dict):
            flat.update({f"proxies.{name}": member for name, member in value.items()})
        else:
            flat[key] = value
    unknown = [key.removeprefix("proxies.") for key in flat if key not in BY_KEY]
    if unknown:
        raise InvalidArgument(
            "the following directives don't match any configuration option: " + ", ".join(sorted(unknown))
        )
    return {key: value for key, value in flat.items() if value is not None}


def _refuse_conflicts(flags: dict[str, Any], file: dict[str, Any]) -> None:
    conflicts = [
        f"{key}: (from flag: {_go_value(flags[key])}, from file: {_go_value(file[key])})"
        for key in sorted(flags.keys() & file.keys())
        if key != "runtimes"
    ]
    if conflicts:
        raise InvalidArgument(
            "the following directives are specified both as a flag and in the configuration file: "
            + ", ".join(conflicts)
        )


def _go_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + " ".join(map(_go_value, value)) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go_value(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Options by their place in `Config`."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        if key.startswith("proxies."):
            nested.setdefault("proxies", {})[key.removeprefix("proxies.")] = value
        elif key == "host-gateway-ip":
            nested["host-gateway-ips"] = [value]
        else:
            nested[key] = value
    return nested


def _convert(nested: dict[str, Any]) -> Config:
    try:
        return msgspec.convert(nested, Config)
    except msgspec.ValidationError as error:
        text = str(error)
        if found := _MISMATCH.search(text):
            expected, got, where = found.groups()
            wanted = expected.split(" | ")[0]
            text = (
                f"json: cannot unmarshal {_JSON_KINDS.get(got, got)} into Go struct field Config.{where} "
                f"of type {_GO_KINDS.get(wanted, wanted)}"
            )
        raise InvalidArgument(f"invalid JSON: {text}") from error


def _merge(flags: dict[str, Any], file: dict[str, Any]) -> Config:
    flat = {**file, **flags}
    if "runtimes" in flags and "runtimes" in file:
        flat["runtimes"] = {**file["runtimes"], **flags["runtimes"]}
    config = _convert(_nested(flat))
    if refused := [f"{key} cannot be set: {REFUSED[key]}" for key in sorted(flat) if key in REFUSED and flat[key]]:
        raise InvalidArgument("; ".join(refused))
    warnings = [f"{key} has no effect: {WITHOUT_EFFECT[key]}" for key in flat if key in WITHOUT_EFFECT and flat[key]]
    return msgspec.structs.replace(config, warnings=tuple(sorted(warnings)))


def _check(config: Config, *, merged: bool) -> None:
    try:
        _check_values(config)
    except InvalidArgument as error:
        if not merged:
            raise
        raise InvalidArgument(
            f"merged configuration validation from file and command line flags failed: {error.message}"
        ) from error


def _check_values(config: Config) -> None:
    if config.log_level not in _LEVELS:
        raise InvalidArgument(f"invalid logging level: {config.log_level}")
    if config.log_format not in ("text", "json"):
        raise InvalidArgument(f"invalid log format: {config.log_format}")
    if config.mtu < 0:
        raise InvalidArgument(f"invalid default MTU: {config.mtu}")
    for words, value in (
        ("max concurrent downloads", config.max_concurrent_downloads),
        ("max concurrent uploads", config.max_concurrent_uploads),
    ):
        if value < 0:
            raise InvalidArgument(f"invalid {words}: {value}")
    if config.max_download_attempts <= 0:
        raise InvalidArgument(f"invalid max download attempts: {config.max_download_attempts}")
    for label in config.labels:
        if not label.partition("=")[2]:
            raise InvalidArgument(f"bad attribute format: {label}")
    for address in (*config.dns, *config.host_gateway_ips, config.ip, *filter(None, [config.default_gateway])):
        _address(address)
    if config.storage_driver not in ("", "overlay2", "overlayfs"):
        raise InvalidArgument(f'driver "{config.storage_driver}" not supported: Gantry has overlay2 alone')
    if config.firewall_backend not in ("", "nftables"):
        raise InvalidArgument(f'invalid firewall-backend "{config.firewall_backend}": Gantry has nftables alone')
    if config.publish_policy == "filtered":  # a promise that is not kept would leave ports open
        raise InvalidArgument(
            'publish-policy "filtered" is not supported: published ports do not pass the host\'s input rules;'
            " restrict them in the chain GANTRY-USER"
        )
    if config.publish_policy != "open":
        raise InvalidArgument(f'invalid publish-policy "{config.publish_policy}": must be "open"')
    if config.default_ipc_mode not in ("private", "shareable"):
        raise InvalidArgument(f"IPC mode {config.default_ipc_mode} is not supported as default value for containers")
    if config.default_cgroupns_mode not in ("", "private", "host"):
        raise InvalidArgument(f"default cgroup namespace mode ({config.default_cgroupns_mode}) is invalid")
    for mirror in config.registry_mirrors:
        _mirror(mirror)
    for option in config.exec_opts:
        _exec_option(option)
    for name, runtime in config.runtimes.items():
        if runtime.runtime_type or runtime.options:
            raise InvalidArgument(f"runtime {name}: runtimeType and options need containerd; give a path")
        if not runtime.path:
            raise InvalidArgument(f"runtime {name}: path is missing")
    for path, key in ((config.data_root, "data-root"), (config.exec_root, "exec-root")):
        if not path.startswith("/"):
            raise InvalidArgument(f"{key} must be an absolute path: {path}")
    parse_size(config.default_shm_size)


def _address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise InvalidArgument(f"invalid IP address: {text}") from None


def _mirror(url: str) -> None:
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise InvalidArgument(
            f"invalid mirror: no scheme specified for \"{url}\": must use either 'https://' or 'http://'"
        )
    if scheme not in ("http", "https"):
        raise InvalidArgument(
            f"invalid mirror: unsupported scheme \"{scheme}\" in \"{url}\": must use either 'https://' or 'http://'"
        )
    if not rest.partition("/")[0] or "?" in rest or "#" in rest:
        raise InvalidArgument(f'invalid mirror: query or fragment at end of the URI "{url}"')


def _exec_option(text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"invalid exec-opt ({text}): must be formatted 'opt=value'")
    if key != "native.cgroupdriver":
        raise InvalidArgument(f"invalid exec-opt ({text}): unknown option: '{key}'")
    if value != "cgroupfs":
        raise InvalidArgument(f"invalid exec-opt ({text}): Gantry has the cgroupfs driver alone")


def parse_size(value: str | int) -> int:
    """Bytes of `64m`, `64MiB` or a number. Raises InvalidArgument."""
    if isinstance(value, int):
        return value
    size = parse_bytes(value)
    if size is None:
        raise InvalidArgument(f"invalid size: '{value}'")
    return size
