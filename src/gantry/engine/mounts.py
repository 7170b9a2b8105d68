"""What a container asks to be mounted: `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's volumes."""

import posixpath

from gantry.errors import InvalidArgument
from gantry.model.container import ContainerConfig, HostConfig, MountPoint, MountRequest
from gantry.model.identity import NAME_FORM

_RW = frozenset({"rw", "ro"})
_LABEL = frozenset({"z", "Z"})
_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_CONSISTENCY = frozenset({"consistent", "cached", "delegated", "default"})


def parse_bind(text: str, driver: str = "") -> MountPoint:
    """One `-v`: `[source:]destination[:mode]`; raises InvalidArgument with Docker's words."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    mode = parts[2] if len(parts) == 3 else ""
    if len(parts) == 2 and not parts[1].startswith("/"):
        raise InvalidArgument(
            f"invalid volume specification: '{text}': invalid mount config for type \"volume\": "
            f"invalid mount path: '{parts[1]}' mount path must be absolute"
        )
    source = parts[0] if len(parts) > 1 else ""
    destination = clean_destination(parts[1] if len(parts) > 1 else parts[0], text)
    words = [word for word in mode.split(",") if word]
    _check_mode(words, mode)
    read_write = "ro" not in words
    propagation = next((word for word in words if word in _PROPAGATION), "")
    if source.startswith("/"):
        return MountPoint(
            "bind", destination, posixpath.normpath(source), mode=mode, read_write=read_write,
            propagation=propagation or "rprivate", options=("create",),
        )  # fmt: skip
    if source and not NAME_FORM.fullmatch(source):
        raise InvalidArgument(
            f'create {source}: "{source}" includes invalid characters for a local volume name, '
            'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    return MountPoint(
        "volume", destination, name=source, driver=driver or "local", mode=mode or "z", read_write=read_write,
        no_copy="nocopy" in words, anonymous=not source,
    )  # fmt: skip


def _check_mode(words: list[str], mode: str) -> None:
    for group in (_RW, _LABEL, _PROPAGATION, _CONSISTENCY, frozenset({"nocopy"})):
        if sum(word in group for word in words) > 1:
            raise InvalidArgument(f"invalid mode: {mode}")
    known = _RW | _LABEL | _PROPAGATION | _CONSISTENCY | {"nocopy"}
    if not set(words) <= known:
        raise InvalidArgument(f"invalid mode: {mode}")


def clean_destination(path: str, whole: str) -> str:
    if not path.startswith("/"):
        raise InvalidArgument(
            f"invalid volume specification: '{whole}': invalid mount path: '{path}' mount path must be absolute"
        )
    cleaned = "/" + posixpath.normpath(path).lstrip("/")
    if cleaned == "/":
        raise InvalidArgument(
            f"invalid volume specification: '{whole}': invalid specification: destination can't be '/'"
        )
    return cleaned


def parse_mount(request: MountRequest) -> MountPoint:
    """One `--mount`; raises InvalidArgument with Docker's words."""
    kind, target = request.type, request.target

    def bad(reason: str) -> InvalidArgument:
        return InvalidArgument(f'invalid mount config for type "{kind}": {reason}')

    if not target:
        raise bad("field Target must not be empty")
    if not target.startswith("/"):
        raise bad(f"invalid mount path: '{target}' mount path must be absolute")
    destination = "/" + posixpath.normpath(target).lstrip("/")
    if destination == "/":
        raise bad("invalid specification: destination can't be '/'")
    if kind == "bind":
        if not request.source:
            raise bad("field Source must not be empty")
        if not request.source.startswith("/"):
            raise bad(f"invalid mount path: '{request.source}' mount path must be absolute")
        options = request.bind_options
        create = ("create",) if options and options.create_mountpoint else ()
        plain = ("bind",) if options and options.non_recursive else ()
        return MountPoint(
            "bind", destination, posixpath.normpath(request.source), read_write=not request.read_only,
            propagation=(options.propagation if options else "") or "rprivate", options=(*create, *plain),
        )  # fmt: skip
    if kind == "volume":
        volume = request.volume_options
        config = volume.driver_config if volume else None
        if request.source and not NAME_FORM.fullmatch(request.source):
            raise bad(f"invalid volume name {request.source!r}")
        return MountPoint(
            "volume", destination, name=request.source, driver=(config.name if config else "") or "local",
            mode="z", read_write=not request.read_only, no_copy=bool(volume and volume.no_copy),
            subpath=volume.subpath if volume else "", anonymous=not request.source,
        )  # fmt: skip
    if kind == "tmpfs":
        if request.source:
            raise bad("field Source must not be specified")
        options_list: list[str] = []
        if tmpfs := request.tmpfs_options:
            if tmpfs.size_bytes < 0:
                raise bad("invalid size")
            options_list += [f"size={tmpfs.size_bytes}"] if tmpfs.size_bytes else []
            options_list += [f"mode={tmpfs.mode:o}"] if tmpfs.mode else []
            options_list += ["=".join(option) for option in tmpfs.options or ()]
        return MountPoint("tmpfs", destination, read_write=not request.read_only, options=tuple(options_list))
    raise InvalidArgument(f'invalid mount config: mount type unknown: "{kind}"')


def requested_mounts(config: ContainerConfig, host: HostConfig, inherited: list[MountPoint]) -> list[MountPoint]:
    """All mounts of one container, by destination: volumes-from, then binds, mounts and tmpfs, then the image's."""
    found: dict[str, MountPoint] = {mount.destination: mount for mount in inherited}
    own: set[str] = set()

    def put(mount: MountPoint) -> None:
        if mount.destination in own:
            raise InvalidArgument(f"Duplicate mount point: {mount.destination}")
        own.add(mount.destination)
        found[mount.destination] = mount

    for text in host.binds or ():
        put(parse_bind(text, host.volume_driver))
    for request in host.mounts or ():
        put(parse_mount(request))
    for path, options in (host.tmpfs or {}).items():
        put(MountPoint("tmpfs", clean_destination(path, path), options=tuple(o for o in options.split(",") if o)))
    for path in config.volumes or ():
        destination = clean_destination(path, path)
        if destination not in found:
            found[destination] = MountPoint(
                "volume", destination, driver=host.volume_driver or "local", mode="", anonymous=True
            )
    return sorted(found.values(), key=lambda mount: mount.destination.count("/"))
