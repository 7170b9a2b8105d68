"""What a container's log options mean once it starts: rotation, the tag, and attributes of its lines."""

import re
import urllib.parse
from collections.abc import Mapping

import msgspec

from gantry.errors import Internal, InvalidArgument, Unavailable
from gantry.model import log_options
from gantry.model.container import Container

DEFAULT_SIZE = 20_000_000
DEFAULT_FILES = 5
_FIELD = re.compile(r"\{\{-?\s*\.(\w+)\s*-?\}\}")
_UNBOUNDED = "-1"


class Rotation(msgspec.Struct, frozen=True):
    """A file is set aside when it has `size` bytes (0: never); `files` is how many there are at most."""

    size: int = DEFAULT_SIZE
    files: int = DEFAULT_FILES
    compress: bool = False


class Settings(msgspec.Struct, frozen=True):
    """`attributes` are what `--details` shows; `buffer` is how far a non-blocking remote driver may lag, in bytes."""

    rotation: Rotation
    tag: str
    attributes: dict[str, str]
    buffer: int = 0


def settings_of(container: Container, daemon: str) -> Settings:
    """Raises InvalidArgument with the words that Docker has when a container starts."""
    log = container.host_config.log_config
    options = log.config or {}
    remote = log.type in log_options.REMOTE
    tag = _tag(options.get("tag", ""), container, daemon)
    attributes = _attributes(container, options)
    if tag and log.type == "json-file":
        attributes["tag"] = tag
    buffer = 0
    if options.get("mode") == "non-blocking":
        buffer = log_options.size(options.get("max-buffer-size", "1m"), 1024)
    rotation = _rotation(
        {k[6:]: v for k, v in options.items() if k.startswith("cache-")} if remote else options, log.type
    )
    if remote:
        tag = tag or _tag("{{.ID}}", container, daemon)
    return Settings(rotation, tag, dict(sorted(attributes.items())), buffer)


def details(attributes: Mapping[str, str]) -> bytes:
    """What `--details` puts before each line."""
    quote = urllib.parse.quote_plus
    return (",".join(f"{quote(key)}={quote(value)}" for key, value in sorted(attributes.items())) + " ").encode()


def _rotation(options: Mapping[str, str], driver: str) -> Rotation:
    local = driver != "json-file"
    given = options.get("max-size", "")
    try:
        limit = 0 if given == _UNBOUNDED else log_options.size(given) if given else DEFAULT_SIZE
    except InvalidArgument as error:
        raise InvalidArgument(
            f"invalid value for max-size: {given}: {error.message}" if local else error.message
        ) from None
    if given and limit <= 0 and given != _UNBOUNDED:
        raise InvalidArgument("max-size must be a positive number")
    files = DEFAULT_FILES if local or not given else 1
    if "max-file" in options:
        try:
            files = log_options.number(options["max-file"])
        except InvalidArgument as error:
            prefix = f"invalid value for max-file: {options['max-file']}: " if local else ""
            raise InvalidArgument(prefix + error.message) from None
    try:
        compress = log_options.truth(options.get("compress", "true" if local else "false"))
    except InvalidArgument as error:
        raise InvalidArgument(
            f"error reading compress log option: {error.message}" if local else error.message
        ) from None
    if local and compress and files < 2:
        raise InvalidArgument("compression cannot be enabled when max file count is 1")
    if files < 1:
        raise InvalidArgument("max-file cannot be less than 1")
    if compress and files < 2:
        raise InvalidArgument("compress cannot be true when max-file is less than 2 or max-size is not set")
    return Rotation(limit, files, compress)


def _tag(template: str, container: Container, daemon: str) -> str:
    """The tag's fields filled in: `.ID`, `.Name`, `.ImageName`, ..."""
    fields = {
        "ID": container.id[:12],
        "FullID": container.id,
        "Name": container.name,
        "ImageID": container.image_id.removeprefix("sha256:")[:12],
        "ImageFullID": container.image_id,
        "ImageName": container.image_ref,
        "DaemonName": daemon,
        "Command": " ".join((container.path, *container.args)),
    }

    def fill(found: re.Match[str]) -> str:
        if found[1] not in fields:
            raise InvalidArgument(
                f'template: log-tag:1:{found.start() + 2}: executing "log-tag" at <.{found[1]}>: '
                f"can't evaluate field {found[1]} in type *logger.Info"
            )
        return fields[found[1]]

    filled = _FIELD.sub(fill, template)
    if "{{" in _FIELD.sub("", template):
        raise InvalidArgument("template: log-tag:1: unclosed action")
    return filled


def _attributes(container: Container, options: Mapping[str, str]) -> dict[str, str]:
    """The labels and variables that `labels`, `labels-regex`, `env` and `env-regex` choose."""
    found: dict[str, str] = {}
    environment = dict(entry.partition("=")[::2] for entry in container.config.env or ())
    for kind, values in (("labels", container.config.labels or {}), ("env", environment)):
        wanted = options.get(kind, "").split(",")
        found.update({name: values[name] for name in wanted if name in values})
        if pattern := options.get(f"{kind}-regex", ""):
            try:
                expression = re.compile(pattern)
            except re.error:
                reason = "missing closing )" if "(" in pattern else "invalid expression"
                raise InvalidArgument(f"error parsing regexp: {reason}: `{pattern}`") from None
            found.update({name: value for name, value in values.items() if expression.search(name)})
    return found


def failed(error: InvalidArgument | Unavailable) -> Internal:
    """The error of a start whose log driver cannot be set up."""
    return Internal(f"failed to create task for container: failed to initialize logging driver: {error.message}")
