"""Reads the configuration: YAML 1.2, bounded; `REGISTRY_…` variables on top; whatever is unknown is named."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gantry.errors import InvalidArgument
from gantry.registry.server.config import UNSUPPORTED, WITHOUT_EFFECT, Config, Section, convert_special

_LIMIT = 1 << 20
_NODES = 20_000  # also of what aliases repeat
_DEPTH = 24
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_PLACE = re.compile(r" - at `\$\.?([^`]*)`")
_PREFIX = "REGISTRY_"


def load(data: bytes, environ: Mapping[str, str], source: str) -> tuple[Config, list[str]]:
    """The configuration and warnings for the log. Raises InvalidArgument with the key that is wrong."""
    if len(data) > _LIMIT:
        raise InvalidArgument(f"{source}: larger than {_LIMIT} bytes")
    document = parse(data, source)
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise InvalidArgument(f"{source}: a mapping is expected, with version: 0.1 first")
    if data and str(document.get("version", "")) != "0.1":
        raise InvalidArgument(f"{source}: version must be 0.1, not {str(document.get('version', 'missing'))[:20]}")
    warnings = _override(document, environ)
    _refuse_unknown(document, source, warnings)
    try:
        config: Config = msgspec.convert(document, Config, strict=False, dec_hook=convert_special)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidArgument(f"{source}: {_readable(str(error))}") from error
    return _checked(config, source), warnings


def parse(data: bytes, source: str) -> Any:
    """YAML as mappings, lists and texts: the schema knows which text is a number. Nulls are as if not there."""
    reader = YAML(typ="safe", pure=True)
    reader.max_depth = _DEPTH
    try:
        node = reader.compose(data.decode("utf-8"))
        return _Plain(source).value(node, 0)
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{source}: not UTF-8: {error.reason} at byte {error.start}") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark is not None else ""
        raise InvalidArgument(f"{source}{where}: {error.problem or error.context or 'invalid YAML'}") from error
    except (YAMLError, RecursionError, ValueError) as error:
        raise InvalidArgument(f"{source}: invalid YAML: {str(error).splitlines()[0][:200]}") from error


class _Plain:
    """Turns a tree of nodes into plain values; aliases count again each time that they are used."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._left = _NODES

    def value(self, node: Node | None, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > _DEPTH:
            raise InvalidArgument(f"{self._source}: more than {_NODES} values or {_DEPTH} levels")
        if isinstance(node, MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, SequenceNode):
            return [self.value(each, depth + 1) for each in node.value]
        if isinstance(node, ScalarNode):
            return None if node.style is None and node.value in _NULLS else str(node.value)
        return None

    def _mapping(self, node: MappingNode, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise InvalidArgument(f"{self._source}:{key.start_mark.line + 1}: a key must be a text")
            if key.value in found:
                raise InvalidArgument(f"{self._source}:{key.start_mark.line + 1}: {key.value} is there twice")
            if (plain := self.value(value, depth + 1)) is not None:
                found[str(key.value)] = plain
        return found


def _override(document: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Put REGISTRY_HTTP_ADDR at http.addr and so on; each value is YAML. A shorter name comes first."""
    warnings = []
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX) or variable == _PREFIX:
            continue
        path = _resolve(variable[len(_PREFIX) :].lower(), Config)
        if path is None:
            warnings.append(f"{variable} names no key of the configuration and has no effect")
            continue
        value = parse(environ[variable].encode("utf-8", "surrogateescape"), variable)
        place = document
        for key in path[:-1]:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                raise InvalidArgument(f"{variable}: {key} is no mapping in the file")
            place = inner
        if value is None:
            place.pop(path[-1], None)
        else:
            place[path[-1]] = value
    return warnings


def _resolve(name: str, section: type[Section]) -> list[str] | None:
    """The keys that a variable's lower-case name spells."""
    for field in msgspec.structs.fields(section):
        spelled = field.encode_name.replace("-", "_")
        if name == spelled:
            return [field.encode_name]
        if name.startswith(spelled + "_"):
            inner = _section(field.type)
            if inner is not None and (rest := _resolve(name[len(spelled) + 1 :], inner)) is not None:
                return [field.encode_name, *rest]
    return None


def _section(kind: Any) -> type[Section] | None:
    """The Struct of a field's type, also of `X | None`."""
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _refuse_unknown(document: dict[str, Any], source: str, warnings: list[str]) -> None:
    unknown: list[str] = []
    _walk(document, Config, "", unknown, warnings)
    if unknown:
        reasons = [f"{path} ({UNSUPPORTED[path]})" for path in unknown if path in UNSUPPORTED]
        others = [path for path in unknown if path not in UNSUPPORTED]
        parts = [f"not supported: {', '.join(reasons)}"] if reasons else []
        parts += [f"unknown: {', '.join(others)}"] if others else []
        raise InvalidArgument(f"{source}: {'; '.join(parts)}")


def _walk(
    document: dict[str, Any], section: type[Section], prefix: str, unknown: list[str], warnings: list[str]
) -> None:
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(section)}
    for key in list(document):
        path = prefix + key
        if path in WITHOUT_EFFECT:
            warnings.append(f"{path} has no effect here")
            del document[key]
        elif key not in fields:
            unknown.append(path)
        else:
            inner = _section(fields[key])
            values = document[key] if isinstance(document[key], list) else [document[key]]
            for value in values:
                if inner is not None and isinstance(value, dict):
                    _walk(value, inner, path + ".", unknown, warnings)


def _readable(message: str) -> str:
    """msgspec's message with the key in front."""
    if found := _PLACE.search(message):
        return f"{found[1]}: {message[: found.start()]}"
    return message


def _checked(config: Config, source: str) -> Config:
    """What the types cannot say."""

    def refuse(path: str, why: str) -> InvalidArgument:
        return InvalidArgument(f"{source}: {path}: {why}")

    if config.storage.filesystem and config.storage.s3:
        raise refuse("storage", "filesystem and s3 cannot both be there")
    if config.auth.htpasswd and config.auth.token:
        raise refuse("auth", "htpasswd and token cannot both be there")
    if bool(config.http.tls.certificate) != bool(config.http.tls.key):
        raise refuse("http.tls", "certificate and key belong together")
    if config.http.tls.minimumtls not in ("tls1.2", "tls1.3"):
        raise refuse("http.tls.minimumtls", "tls1.2 or tls1.3 is expected: older ones are broken")
    if config.http.net not in ("tcp", "unix"):
        raise refuse("http.net", "tcp or unix is expected")
    if config.log.level not in ("debug", "info", "warn", "error"):
        raise refuse("log.level", "debug, info, warn or error is expected")
    if config.log.formatter not in ("text", "json"):
        raise refuse("log.formatter", "text or json is expected")
    if config.catalog.maxentries < 1:
        raise refuse("catalog.maxentries", "at least 1 is expected")
    if config.validation.manifests.indexes.platforms not in ("all", "none"):
        raise refuse("validation.manifests.indexes.platforms", "all or none is expected")
    urls = config.validation.manifests.urls
    for pattern in (*urls.allow, *urls.deny):
        try:
            re.compile(pattern)
        except re.error as error:
            raise refuse("validation.manifests.urls", f"{pattern!r} is no regular expression: {error}") from error
    token = config.auth.token
    if token and token.autoredirect:
        raise refuse("auth.token.autoredirect", "not supported: write the whole URL as realm")
    if token and not token.rootcertbundle and not token.jwks:
        raise refuse("auth.token", "rootcertbundle or jwks is needed to check tokens")
    for index, rule in enumerate(config.gantry.access):
        if wrong := sorted(set(rule.actions) - {"pull", "push", "create", "delete", "admin"}):
            raise refuse(f"gantry.access[{index}].actions", f"{wrong[0]} is none of pull, push, create, delete, admin")
    for index, retention in enumerate(config.gantry.retention):
        if retention.keep_last < 0 or not (retention.keep_last or retention.younger_than):
            raise refuse(f"gantry.retention[{index}]", "keep-last or younger-than must say what stays")
    if config.gantry.collect.grace < 60 and config.gantry.collect.enabled:
        raise refuse("gantry.collect.grace", "at least 1m: pushes that are under way must outlive it")
    return config
