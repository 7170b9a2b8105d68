"""Images in the Engine API's JSON (`ImageSummary`, `ImageInspect`, `ImageHistory`)."""

from typing import Any

import msgspec

from gantry.errors import InvalidArgument
from gantry.model import timestamp
from gantry.model.container import ContainerConfig
from gantry.model.image import Image
from gantry.model.timestamp import parse_rfc3339


def created_seconds(text: str) -> int:
    """Seconds since the epoch of an image's `created`; 0 where it has none."""
    if not text:
        return 0
    try:
        return parse_rfc3339(text) // 1_000_000_000
    except ValueError:
        return 0


def summary(image: Image, containers: int = -1, shared_size: int = -1) -> dict[str, Any]:
    return {
        "Containers": containers,
        "Created": created_seconds(image.created),
        "Id": image.id,
        "Labels": image.config.labels,
        "ParentId": image.parent,
        "Descriptor": _descriptor(image),
        "RepoDigests": list(image.repo_digests),
        "RepoTags": list(image.repo_tags),
        "SharedSize": shared_size,
        "Size": image.size,
    }


def inspect(image: Image, graph: dict[str, Any], version: tuple[int, int]) -> dict[str, Any]:
    """`graph` is the storage driver's part. Before API 1.44, `VirtualSize` repeats the size."""
    config = msgspec.to_builtins(image.config)
    kept = {name: config[name] for name in _IMAGE_FIELDS}
    if not image.config.healthcheck:
        kept.pop("Healthcheck")
    answer: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": image.created or timestamp.ZERO,
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Config": kept,
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "GraphDriver": graph,
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": timestamp.rfc3339(image.last_tagged_at)},
        "Descriptor": _descriptor(image),
    }
    if image.variant:
        answer["Variant"] = image.variant
    if version < (1, 44):
        answer["VirtualSize"] = image.size
        answer["ContainerConfig"] = msgspec.to_builtins(ContainerConfig())
        answer["Container"] = ""
    return answer


_IMAGE_FIELDS = (
    "Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "ExposedPorts", "Tty", "OpenStdin",
    "StdinOnce", "Env", "Cmd", "Healthcheck", "ArgsEscaped", "Image", "Volumes", "WorkingDir", "Entrypoint", "OnBuild",
    "Labels", "StopSignal", "Shell",
)  # fmt: skip


def _descriptor(image: Image) -> dict[str, Any]:
    return {"mediaType": image.media_type, "digest": image.id, "size": image.manifest_size}


def history(image: Image, layer_sizes: dict[str, int]) -> list[dict[str, Any]]:
    """Newest first. The topmost line has the image's id; sizes go to the lines that made a layer."""
    lines: list[dict[str, Any]] = []
    layers = iter(image.layers)
    for entry in image.history:
        size = 0 if entry.empty_layer else layer_sizes.get(next(layers, ""), 0)
        lines.append(
            {
                "Id": "<missing>",
                "Created": created_seconds(entry.created),
                "CreatedBy": entry.created_by,
                "Tags": None,
                "Size": size,
                "Comment": entry.comment,
            }
        )
    lines.reverse()
    if lines:
        lines[0]["Id"] = image.id
        lines[0]["Tags"] = list(image.repo_tags) or None
    return lines


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
        raise InvalidArgument("HEALTHCHECK is not a valid change command here")
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
