"""Images in the Engine API's JSON (`ImageSummary`, `ImageInspect`, `ImageHistory`)."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gantry.errors import InvalidArgument
from gantry.model import timestamp
from gantry.model.container import ContainerConfig
from gantry.model.image import HistoryEntry, Image, PlatformManifest
from gantry.model.timestamp import parse_rfc3339
from gantry.wire.healthcheck import parse_healthcheck
from gantry.wire.versions import MAXIMUM


def created_seconds(text: str) -> int:
    """Seconds since the epoch of an image's `created`; 0 where it has none."""
    if not text:
        return 0
    try:
        return parse_rfc3339(text) // 1_000_000_000
    except (ValueError, OverflowError):
        return 0


def summary(
    image: Image,
    containers: int = -1,
    shared_size: int = -1,
    version: tuple[int, int] = MAXIMUM,
    *,
    manifests: Sequence[PlatformManifest] | None = None,
) -> dict[str, Any]:
    """One line of an image list; -1 stands for what was not counted."""
    no_tags, no_digests = (["<none>:<none>"], ["<none>@<none>"]) if version < (1, 43) else ([], [])
    answer: dict[str, Any] = {
        "Containers": containers,
        "Created": created_seconds(image.created),
        "Id": image.id,
        "Labels": image.config.labels,
        "ParentId": image.parent,
        "RepoDigests": list(image.repo_digests) or no_digests,
        "RepoTags": list(image.repo_tags) or no_tags,
        "SharedSize": shared_size,
        "Size": image.size,
    }
    if version < (1, 44):
        answer["VirtualSize"] = image.size
    if version >= (1, 48):
        answer["Descriptor"] = _descriptor(image)
    if manifests is not None:
        answer["Manifests"] = [_manifest(image, manifest, containers) for manifest in manifests]
    return answer


def inspect(
    image: Image, version: tuple[int, int], *, manifests: Sequence[PlatformManifest] | None = None
) -> dict[str, Any]:
    """Before API 1.44, `VirtualSize` repeats the size; before 1.50, `Config` has a container's fields too."""
    answer: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": image.created or timestamp.ZERO,
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Config": _config(image.config, version),
        "Architecture": image.architecture,
        **({"Variant": image.variant} if image.variant else {}),
        "Os": image.os,
        "Size": image.size,
        "GraphDriver": {"Name": "overlay2", "Data": {}},
        "RootFS": {"Type": "layers", **({"Layers": list(image.diff_ids)} if image.diff_ids else {})},
        "Metadata": {"LastTagTime": timestamp.rfc3339(image.last_tagged_at)},
    }
    if version < (1, 44):
        answer["VirtualSize"] = image.size
    if version < (1, 45):
        answer["Container"] = ""
        answer["ContainerConfig"] = _config(ContainerConfig(), version)
    if version >= (1, 48):
        answer["Descriptor"] = _descriptor(image)
    if manifests is not None:
        answer["Manifests"] = [_manifest(image, manifest, -1) for manifest in manifests]
    return answer


_IMAGE_FIELDS = ("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir")
_SET_FIELDS = ("ArgsEscaped", "ExposedPorts", "Healthcheck", "Shell", "StopSignal")
_CONTAINER_FIELDS = (
    "AttachStderr", "AttachStdin", "AttachStdout", "Domainname", "Hostname", "Image", "OpenStdin", "StdinOnce", "Tty",
)  # fmt: skip


def _config(config: ContainerConfig, version: tuple[int, int]) -> dict[str, Any]:
    plain = msgspec.to_builtins(config)
    names = _IMAGE_FIELDS if version >= (1, 50) else _IMAGE_FIELDS + _CONTAINER_FIELDS
    return {name: plain[name] for name in names} | {name: plain[name] for name in _SET_FIELDS if plain[name]}


def _descriptor(image: Image) -> dict[str, Any]:
    return {"mediaType": image.media_type, "digest": image.id, "size": image.manifest_size}


def _manifest(image: Image, manifest: PlatformManifest, containers: int) -> dict[str, Any]:
    """`ImageManifestSummary`; `containers` are those of the image's own platform."""
    answer: dict[str, Any] = {
        "ID": manifest.descriptor.digest,
        "Descriptor": msgspec.to_builtins(manifest.descriptor),
        "Available": manifest.available,
        "Kind": manifest.kind,
        "Size": {"Content": manifest.content, "Total": manifest.content + manifest.unpacked},
    }
    if manifest.kind == "image":
        platform = manifest.descriptor.platform or {}
        answer["ImageData"] = {"Platform": platform, "Size": {"Unpacked": manifest.unpacked}}
        if containers >= 0 and manifest.descriptor.digest == image.manifest:
            answer["ImageData"]["Containers"] = []
    elif manifest.kind == "attestation":
        answer["AttestationData"] = {"For": manifest.subject}
    return answer


def history(lines: Sequence[tuple[Image | None, HistoryEntry, int]]) -> list[dict[str, Any]]:
    """Newest first; each line with the image that ends there, where it is known, and its bytes."""
    return [
        {
            "Id": image.id if image is not None else "<missing>",
            "Created": created_seconds(entry.created),
            "CreatedBy": entry.created_by,
            "Tags": (list(image.repo_tags) or None) if image is not None else None,
            "Size": size,
            "Comment": entry.comment,
        }
        for image, entry, size in lines
    ]


_CHANGES = frozenset(
    {"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR", "HEALTHCHECK"}
)


def apply_changes(config: ContainerConfig, lines: list[str]) -> ContainerConfig:
    """Apply Dockerfile instructions (`commit --change`, `import --change`) to a configuration."""
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        name, rest = word.upper(), rest.strip()
        if name not in _CHANGES:
            raise InvalidArgument(f"{word} is not a valid change command")
        if not rest:
            raise InvalidArgument(f"{name} requires at least one argument")
        config = _change(config, name, rest)
    return config


def _change(config: ContainerConfig, name: str, rest: str) -> ContainerConfig:
    replace = msgspec.structs.replace
    if name in ("CMD", "ENTRYPOINT"):
        words = _json_words(rest) or ["/bin/sh", "-c", rest]
        return replace(config, cmd=words) if name == "CMD" else replace(config, entrypoint=words)
    if name in ("ENV", "LABEL"):
        pairs = _pairs(rest)
        if name == "LABEL":
            return replace(config, labels={**(config.labels or {}), **pairs})
        old = [item for item in config.env or [] if item.partition("=")[0] not in pairs]
        return replace(config, env=old + [f"{key}={value}" for key, value in pairs.items()])
    if name == "EXPOSE":
        ports = {port if "/" in port else f"{port}/tcp": dict[str, Any]() for port in rest.split()}
        return replace(config, exposed_ports={**(config.exposed_ports or {}), **ports})
    if name == "VOLUME":
        paths = _json_words(rest) or rest.split()
        return replace(config, volumes={**(config.volumes or {}), **{path: {} for path in paths}})
    if name == "ONBUILD":
        return replace(config, on_build=[*(config.on_build or []), rest])
    if name == "HEALTHCHECK":
        return replace(config, healthcheck=parse_healthcheck(rest))
    field = {"STOPSIGNAL": "stop_signal", "USER": "user", "WORKDIR": "working_dir"}[name]
    return replace(config, **{field: rest})


def _json_words(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return None


def _pairs(text: str) -> dict[str, str]:
    import shlex

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidArgument(f"failed to parse {text!r}: {error}") from error
    if words and "=" not in words[0]:
        key, _, value = text.partition(" ")
        return {key: value.strip()}
    for word in words:
        if "=" not in word:
            raise InvalidArgument(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
    return dict(word.split("=", 1) for word in words)


class SearchFilter:
    """The filters of a search: `is-official`, `is-automated`, `stars`. Raises InvalidArgument for others."""

    def __init__(self, wanted: dict[str, list[str]]) -> None:
        for name in wanted:
            if name not in ("is-official", "is-automated", "stars"):
                raise InvalidArgument(f"invalid filter '{name}'")
        self._official = _truth(wanted, "is-official")
        self._automated = _truth(wanted, "is-automated")
        self._stars = 0
        for value in wanted.get("stars", ()):
            if not value.isdecimal():
                raise InvalidArgument(f"invalid filter 'stars={value}'")
            self._stars = max(self._stars, int(value))

    def __call__(self, result: dict[str, Any]) -> bool:
        return (
            self._official in (None, result["is_official"])
            and self._automated in (None, result["is_automated"])
            and int(result["star_count"]) >= self._stars
        )


def _truth(wanted: dict[str, list[str]], name: str) -> bool | None:
    values = wanted.get(name)
    if not values:
        return None
    if values in (["1"], ["true"]):
        return True
    if values in (["0"], ["false"]):
        return False
    raise InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")


def search_result(found: dict[str, Any]) -> dict[str, Any]:
    """One search result: nothing but the known fields, each of its type whatever the registry sends."""
    stars = found.get("star_count")
    return {
        "star_count": stars if isinstance(stars, int) else 0,
        "is_official": found.get("is_official") is True,
        "name": str(found.get("name") or ""),
        "is_automated": found.get("is_automated") is True,
        "description": str(found.get("description") or ""),
    }
