"""`RUN --mount`: what is asked for, as data (Dockerfile reference, "RUN --mount"). Messages are BuildKit's."""

import csv
import posixpath
import re
from collections.abc import Callable
from difflib import get_close_matches

import msgspec

from gantry.build.errors import DockerfileError
from gantry.model.size import parse_bytes

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
SECRETS, SSH_SOCKET = "/run/secrets/", "/run/buildkit/ssh_agent."
_SHARING = ("shared", "private", "locked")
_OWNED = frozenset({"cache", "secret", "ssh"})
_ENVIRONMENT = re.compile(r"[^=\0]+")
_MAX_ID = (1 << 32) - 2


class MountRequest(msgspec.Struct, frozen=True):
    """One `--mount`. `origin` is `from`: a stage, an image or a named context, "" for the context.

    `mode`, `uid` and `gid` are None where they were not given; `size` in bytes, 0 for no limit.
    """

    kind: str = "bind"
    target: str = ""
    source: str = ""
    origin: str = ""
    read_only: bool = False
    id: str = ""
    sharing: str = "shared"
    required: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int = 0
    variable: str = ""


def parse_mount(text: str, expand: Callable[[str], str], line: int) -> MountRequest:
    """A `--mount` flag's value; `expand` replaces variables. Raises DockerfileError."""
    return _Reader(expand, line).read(text)


def origin_of(text: str) -> str:
    """The `from` of a mount as it is written, "" for none: enough to find the stages that a build needs."""
    return next((value for key, value in _fields(text) if key == "from" and value), "")


def _fields(text: str) -> list[tuple[str, str | None]]:
    try:
        (row,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        return []
    return [(key.lower(), value if equals else None) for key, equals, value in (item.partition("=") for item in row)]


class _Reader:
    def __init__(self, expand: Callable[[str], str], line: int) -> None:
        self._expand = expand
        self._line = line
        self._values: dict[str, str] = {}
        self._flags: dict[str, bool] = {}

    def _error(self, message: str) -> DockerfileError:
        return DockerfileError(message, line=self._line, numbered=False)

    def read(self, text: str) -> MountRequest:
        fields = _fields(text)
        if not fields:
            raise DockerfileError("failed to parse csv mounts: EOF", line=self._line)
        kind = "bind"
        for key, value in fields:
            if key == "type":
                kind = self._kind(value or "")
        for key, value in fields:
            self._field(kind, key, value)
        return self._request(kind)

    def _kind(self, kind: str) -> str:
        if kind not in KINDS:
            near = get_close_matches(kind, KINDS, 1)
            raise self._error(f'unsupported mount type "{kind}"' + (f" (did you mean {near[0]}?)" if near else ""))
        return kind

    def _field(self, kind: str, key: str, value: str | None) -> None:
        if value is None:
            if key in ("readonly", "ro", "readwrite", "rw"):
                self._flags["ro"] = key in ("readonly", "ro")
            elif key == "required":
                self._required(kind, "true")
            else:
                raise self._error(f"invalid field '{key}' must be a key=value pair")
            return
        given, value = f"{key}={value}", self._expand(value)
        match key:
            case "type":
                pass
            case "target" | "dst" | "destination":
                self._values["target"] = value
            case "source" | "src":
                self._values["source"] = value
            case "readonly" | "ro":
                self._flags["ro"] = self._boolean(key, value)
            case "readwrite" | "rw":
                self._flags["ro"] = not self._boolean(key, value)
            case "required":
                self._required(kind, value)
            case "from" | "id" | "sharing" | "mode" | "uid" | "gid" | "size":
                self._values[key] = value
            case "env" if kind == "secret":
                self._values["env"] = value
            case _:
                raise self._error(f"unexpected key '{key}' in '{given}'")

    def _required(self, kind: str, value: str) -> None:
        if kind not in ("secret", "ssh"):
            raise self._error(f"unexpected key 'required' for mount type '{kind}'")
        self._flags["required"] = self._boolean("required", value)

    def _boolean(self, key: str, value: str) -> bool:
        if value in ("1", "t", "T", "true", "TRUE", "True"):
            return True
        if value in ("0", "f", "F", "false", "FALSE", "False"):
            return False
        raise self._error(f"invalid value for {key}: {value}")

    def _request(self, kind: str) -> MountRequest:
        values = self._values
        sharing = values.get("sharing", "shared")
        if sharing not in _SHARING:
            raise self._error(f'unsupported sharing value "{sharing}"')
        if "sharing" in values and kind != "cache":
            raise self._error(f"invalid cache sharing set for {kind} mount")
        for key in ("mode", "uid", "gid"):
            if key in values and kind not in _OWNED:
                raise self._error(f'{key} not allowed for "{kind}" type mounts')
        target, identity = values.get("target", ""), values.get("id", "")
        if kind == "secret":
            if not (target or identity or values.get("source")):
                raise self._error("invalid secret mount. one of source, target required")
            identity = identity or values.get("source", "") or posixpath.basename(target)
            target = target or ("" if values.get("env") else SECRETS + posixpath.basename(identity))
            self._environment(values.get("env"))
        elif kind == "ssh":
            identity = identity or "default"
        elif not target.strip("/"):
            raise self._error('invalid mount target "/"')
        return MountRequest(
            kind=kind,
            target=target,
            source=values.get("source", ""),
            origin=values.get("from", ""),
            # A context or a stage is looked at, unless it is said that it may be written to for this step.
            read_only=self._flags.get("ro", kind == "bind"),
            id=identity or (posixpath.normpath(target) if kind == "cache" else ""),
            sharing=sharing,
            required=self._flags.get("required", False),
            mode=self._number("mode", 8, 0o7777),
            uid=self._number("uid", 10, _MAX_ID),
            gid=self._number("gid", 10, _MAX_ID),
            size=self._size(values.get("size", "")),
            variable=values.get("env", ""),
        )

    def _environment(self, name: str | None) -> None:
        if name is not None and not _ENVIRONMENT.fullmatch(name):
            raise self._error(f"invalid environment variable name for a secret: {name!r}")

    def _number(self, key: str, base: int, limit: int) -> int | None:
        text = self._values.get(key)
        if text is None:
            return None
        digits = "01234567" if base == 8 else "0123456789"
        if not text or len(text) > 10 or set(text) - set(digits) or int(text, base) > limit:
            raise self._error(f"invalid value {text} for {key}")
        return int(text, base)

    def _size(self, text: str) -> int:
        if not text:
            return 0
        size = parse_bytes(text)
        if size is None:
            raise self._error(f"invalid value for size: {text}")
        return size
