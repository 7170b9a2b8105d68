"""The paths of the protocol (OCI distribution specification, "Endpoints") and the URLs that answers carry."""

from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec

from gantry.registry.server.errors import RegistryError


class Target(msgspec.Struct, frozen=True):
    """What a path names: the kind of thing, the repository's name, and the last part; none of it checked yet."""

    kind: str
    repository: str = ""
    argument: str = ""


_REGISTRY = {"": Target("base"), "_catalog": Target("catalog"), "_gantry/collect": Target("collect")}


def match(path: str, prefix: str = "") -> Target | None:
    """The target of a decoded path below `prefix`; None for what is no path of the protocol."""
    path = path.removeprefix(prefix.rstrip("/"))
    if path == "/v2":
        return _REGISTRY[""]
    if not path.startswith("/v2/"):
        return None
    rest = path[len("/v2/") :]
    if rest in _REGISTRY:
        return _REGISTRY[rest]
    parts = rest.split("/")
    if parts[-2:] == ["tags", "list"]:
        return Target("tags", "/".join(parts[:-2]))
    if parts[-2:] == ["_gantry", "repository"]:
        return Target("repository", "/".join(parts[:-2]))
    if parts[-2:] == ["blobs", "uploads"]:
        return Target("uploads", "/".join(parts[:-2]))
    if len(parts) > 3 and parts[-3:-1] == ["blobs", "uploads"]:
        return Target("upload" if parts[-1] else "uploads", "/".join(parts[:-3]), parts[-1])
    if len(parts) > 2 and parts[-2] in ("manifests", "blobs", "referrers"):
        return Target(
            {"manifests": "manifest", "blobs": "blob"}.get(parts[-2], "referrers"), "/".join(parts[:-2]), parts[-1]
        )
    return None


def integer(query: Mapping[str, str], name: str) -> int | None:
    """A query parameter that counts results; PAGINATION_NUMBER_INVALID for what is no number."""
    text = query.get(name)
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RegistryError("PAGINATION_NUMBER_INVALID", f"{name}={text[:32]}")
    return int(text)


def next_link(path: str, **parameters: str) -> str:
    """The Link header of a page that others follow (RFC 8288); an empty parameter is left out."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f'<{path}?{query}>; rel="next"'
