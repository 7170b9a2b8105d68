"""The log drivers' names and options: which there are and what may be said, with Docker's messages."""

import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from gantry.errors import InvalidArgument
from gantry.model.container import LogConfig
from gantry.model.size import parse_bytes

DRIVERS = ("fluentd", "gelf", "journald", "json-file", "local", "none", "syslog")
REMOTE = frozenset({"fluentd", "gelf", "journald", "syslog"})  # their output goes elsewhere; the file is a cache of it

FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip
SYSLOG_FORMATS = ("rfc3164", "rfc5424", "rfc5424micro")
FLUENTD_PORT = 24224

_EVERYWHERE = ("cache-compress", "cache-disabled", "cache-max-file", "cache-max-size", "max-buffer-size", "mode")
_ATTRIBUTES = ("env", "env-regex", "labels", "labels-regex", "tag")
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "fluentd": (
        *_ATTRIBUTES, "fluentd-address", "fluentd-async", "fluentd-async-connect", "fluentd-async-reconnect-interval",
        "fluentd-buffer-limit", "fluentd-max-retries", "fluentd-request-ack", "fluentd-retry-wait",
        "fluentd-sub-second-precision", "fluentd-write-timeout",
    ),
    "gelf": (
        *_ATTRIBUTES, "gelf-address", "gelf-compression-level", "gelf-compression-type", "gelf-tcp-max-reconnect",
        "gelf-tcp-reconnect-delay",
    ),
    "journald": _ATTRIBUTES,
    "json-file": (*_ATTRIBUTES, "compress", "max-file", "max-size"),
    "local": ("compress", "max-file", "max-size"),
    "syslog": (
        *_ATTRIBUTES, "syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert",
        "syslog-tls-key", "syslog-tls-skip-verify",
    ),
}  # fmt: skip
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_DURATION = re.compile(r"[+-]?(?:[0-9]*\.?[0-9]+(?:ns|us|µs|ms|s|m|h))+|[+-]?0")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def check(log: LogConfig) -> None:
    """Raises InvalidArgument for a driver that there is not, and for options that can be seen to be wrong at create."""
    options = log.config or {}
    if log.type in ("", "none"):
        return
    if log.type not in DRIVERS:
        raise InvalidArgument(f'error looking up logging plugin {log.type}: plugin "{log.type}" not found')
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            size(options["max-buffer-size"], 1024)
        except InvalidArgument as error:
            raise InvalidArgument(f"error parsing option max-buffer-size: {error.message}") from None
    if options.get("cache-disabled", "1") not in _TRUE | _FALSE:
        raise InvalidArgument(f"invalid value for option cache-disabled: {options['cache-disabled']}")
    if log.type == "gelf":
        _gelf_address(options)
    for name in options:
        if name not in _EVERYWHERE and name not in _OPTIONS[log.type]:
            order = "log driver local" if log.type == "local" else f"{log.type} log driver"
            raise InvalidArgument(f"unknown log opt '{name}' for {order}")
    if check_driver := _CHECKS.get(log.type):
        check_driver(options)


def readable(log: LogConfig) -> bool:
    """Whether the daemon keeps what `logs` reads."""
    return log.type != "none" and not (log.type in REMOTE and truth((log.config or {}).get("cache-disabled", "0")))


def truth(text: str) -> bool:
    """A boolean as Go reads it."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidArgument(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def size(text: str, base: int = 1000) -> int:
    """Bytes of `20m`: by thousands, or by `base`."""
    found = parse_bytes(text, base)
    if found is None:
        raise InvalidArgument(f"invalid size: '{text}'")
    return found


def number(text: str, function: str = "Atoi") -> int:
    if not re.fullmatch(r"[+-]?[0-9]+" if function == "Atoi" else "[0-9]+", text):
        raise InvalidArgument(f'strconv.{function}: parsing "{text}": invalid syntax')
    return int(text)


def duration(text: str) -> float:
    """Seconds of `1m30s`."""
    if not _DURATION.fullmatch(text):
        raise InvalidArgument(f'time: invalid duration "{text}"')
    total = sum(float(value) * _UNITS[unit] for value, unit in re.findall(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", text))
    return -total if text.startswith("-") else total


# ------------------------------------------------------------------------------------------------- syslog


def syslog_address(text: str) -> tuple[str, str, int]:
    """(scheme, host or path, port) of `syslog-address`; ("", "", 0) for the host's own socket."""
    if not text:
        return "", "", 0
    url = urlsplit(text)
    if url.scheme in ("unix", "unixgram"):
        path = url.netloc + url.path
        if not Path(path).exists():
            raise InvalidArgument(f"stat {path}: no such file or directory")
        return url.scheme, path, 0
    if url.scheme not in ("udp", "tcp", "tcp+tls"):
        raise InvalidArgument(f"unsupported scheme: '{url.scheme}'")
    host, port = _host_port(url)
    return url.scheme, host, 514 if port < 0 else port


def _host_port(url: SplitResult) -> tuple[str, int]:
    """Host and port, -1 where there is none. A port beyond the range is told when it is used."""
    host, colon, port = url.netloc.rpartition(":")
    if not colon or not port.isdecimal():
        return url.netloc.strip("[]"), -1
    return host.strip("[]"), int(port)


def syslog_facility(text: str) -> int:
    """The facility's number: a name, or a number itself."""
    if not text:
        return FACILITIES.index("daemon")
    if text in FACILITIES:
        return FACILITIES.index(text)
    if text.isdecimal() and int(text) < len(FACILITIES):
        return int(text)
    raise InvalidArgument("invalid syslog facility")


def _check_syslog(options: Mapping[str, str]) -> None:
    syslog_address(options.get("syslog-address", ""))
    syslog_facility(options.get("syslog-facility", ""))
    if options.get("syslog-format", "") not in ("", *SYSLOG_FORMATS):
        raise InvalidArgument("Invalid syslog format")


# --------------------------------------------------------------------------------------------------- gelf


def _gelf_address(options: Mapping[str, str]) -> None:
    if not options.get("gelf-address"):
        raise InvalidArgument("gelf-address is a required parameter")
    gelf_address(options["gelf-address"])


def gelf_address(text: str) -> tuple[str, str, int]:
    """(`udp` or `tcp`, host, port)."""
    url = urlsplit(text)
    if url.scheme not in ("udp", "tcp"):
        raise InvalidArgument("gelf: endpoint needs to be TCP or UDP")
    host, port = _host_port(url)
    if port < 0:
        raise InvalidArgument("gelf: please provide gelf-address as proto://host:port")
    return url.scheme, host, port


def _check_gelf(options: Mapping[str, str]) -> None:
    scheme = gelf_address(options["gelf-address"])[0]
    for name in ("gelf-compression-level", "gelf-compression-type"):
        value = options.get(name)
        if value is None:
            continue
        if scheme != "udp":
            raise InvalidArgument("compression is only supported on UDP")
        allowed = ("gzip", "zlib", "none") if name.endswith("type") else tuple(map(str, range(-1, 10)))
        if value not in allowed:
            raise InvalidArgument(f'unknown value "{value}" for log opt "{name}" for gelf log driver')
    for name in ("gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"):
        value = options.get(name)
        if value is None:
            continue
        if scheme != "tcp":
            raise InvalidArgument(f'"{name}" is only valid for TCP')
        if not value.isdecimal():
            raise InvalidArgument(f'"{name}" must be a positive integer')


# ------------------------------------------------------------------------------------------------ fluentd


def fluentd_address(text: str) -> tuple[str, str, int]:
    """(`tcp`, `tls` or `unix`, host or path, port)."""
    if not text:
        return "tcp", "127.0.0.1", FLUENTD_PORT
    whole = text if "://" in text else f"tcp://{text}"
    url = urlsplit(whole)
    bad = f"invalid fluentd-address ({text}): "
    if url.scheme == "unix":
        if not url.path.strip("/"):
            raise InvalidArgument(f"{bad}path is empty")
        return "unix", posixpath.join("/", url.netloc, url.path), 0
    if url.scheme not in ("tcp", "tls"):
        raise InvalidArgument(f"{bad}unsupported scheme: '{url.scheme}'")
    if url.path:
        raise InvalidArgument(f"{bad}should not contain a path element")
    host, colon, port = url.netloc.rpartition(":")
    if colon and port and not port.isdecimal():
        raise InvalidArgument(f'{bad}parse "{whole}": invalid port ":{port}" after host')
    if not colon:
        host, port = url.netloc, ""
    return url.scheme, host.strip("[]") or "127.0.0.1", int(port) if port else FLUENTD_PORT


def _check_fluentd(options: Mapping[str, str]) -> None:
    fluentd_address(options.get("fluentd-address", ""))
    for name in ("fluentd-async", "fluentd-async-connect", "fluentd-request-ack", "fluentd-sub-second-precision"):
        if options.get(name):
            truth(options[name])
    if options.get("fluentd-buffer-limit"):
        size(options["fluentd-buffer-limit"], 1024)
    if options.get("fluentd-retry-wait"):
        duration(options["fluentd-retry-wait"])
    if options.get("fluentd-max-retries"):
        number(options["fluentd-max-retries"], "ParseUint")
    if value := options.get("fluentd-write-timeout"):
        try:
            duration(value)
        except InvalidArgument as error:
            raise InvalidArgument(
                f"invalid value for fluentd-write-timeout: value must be a duration: {error.message}"
            ) from None
    if value := options.get("fluentd-async-reconnect-interval"):
        name = "fluentd-async-reconnect-interval"
        try:
            interval = duration(value)
        except InvalidArgument as error:
            raise InvalidArgument(f"invalid value for {name}: value must be a duration: {error.message}") from None
        if not 0.1 <= interval <= 10:
            raise InvalidArgument(f'invalid value for {name}: value ("{value}") must be between 100ms and 10s')


_CHECKS: Mapping[str, Callable[[Mapping[str, str]], None]] = {
    "fluentd": _check_fluentd,
    "gelf": _check_gelf,
    "syslog": _check_syslog,
}
