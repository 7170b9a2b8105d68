"""`POST /build` in the Engine API's JSON: parameters that are JSON themselves, and registry credentials."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from gantry.errors import GantryError, InvalidArgument
from gantry.model.container import Ulimit

_HUB = frozenset({"https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"})


def decode_map(text: str, what: str) -> dict[str, str | None]:
    """`buildargs` or `labels`: an object of strings (or null); raises InvalidArgument with Docker's words."""
    value: dict[str, str | None] = _decode(text, dict[str, str | None], what) if text else {}
    return value


def decode_list(text: str, what: str) -> list[str]:
    """`cachefrom`: a list of strings."""
    value: list[str] = _decode(text, list[str], what) if text else []
    return value


def decode_ulimits(text: str) -> list[Ulimit] | None:
    """`ulimits`: `[{"Name": "nofile", "Hard": 1024, "Soft": 512}]`."""
    value: list[Ulimit] | None = _decode(text, list[Ulimit] | None, "ulimit settings") if text else None
    return value


def decode_secrets(data: bytes) -> dict[str, bytes]:
    """Secrets by id, each in base64. Raises InvalidArgument."""
    try:
        return msgspec.json.decode(data, type=dict[str, bytes])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"error reading secrets: {error}") from error


def _decode(text: str, kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"error reading {what}: {error}") from error


def decode_registry_config(header: str) -> dict[str, str]:
    """`X-Registry-Config`: an X-Registry-Auth value for each registry; what cannot be read counts as absent."""
    if not header:
        return {}
    try:
        padded = header + "=" * (-len(header) % 4)
        plain = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(plain, dict):
        return {}
    found = {}
    for name, auth in plain.items():
        if isinstance(auth, dict):
            registry = (
                "docker.io" if name in _HUB else name.removeprefix("https://").removeprefix("http://").split("/")[0]
            )
            found[registry] = base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()
    return found


def check_body(findings: Sequence[Any], name: str, source: str, *, failing: bool) -> dict[str, Any]:
    """The answer of `POST /build?call=check`, in the shape of buildx's `--call=check,format=json`."""
    return {
        "warnings": [
            {
                "ruleName": each.rule,
                "description": each.description,
                "url": each.url,
                "detail": each.detail,
                "advice": each.advice,
                "location": {"ranges": [{"start": {"line": each.start}, "end": {"line": each.end}}]},
            }
            for each in findings
        ],
        "sources": [{"filename": name, "language": "Dockerfile", "data": base64.b64encode(source.encode()).decode()}],
        "failing": failing,
    }


def failure_body(error: GantryError) -> dict[str, Any]:
    """Where a build failed, for `gantry build`; empty where no line is to blame."""
    excerpt: str = getattr(error, "excerpt", "")
    if not excerpt:
        return {}
    names = ("file", "line", "excerpt", "image", "shell")
    return {name: value for name in names if (value := getattr(error, name, None))}


def prune_body(keys: list[str], reclaimed: int) -> dict[str, Any]:
    """The answer of `POST /build/prune`."""
    return {"CachesDeleted": keys or None, "SpaceReclaimed": reclaimed}
