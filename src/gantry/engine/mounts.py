"""What a container asks to be mounted: `-v`, `--mount`, `--volumes-from` and the image's volumes."""

import posixpath
from collections.abc import Callable, Iterable, Mapping

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.container import ContainerConfig, HostConfig, MountPoint, MountRequest
from gantry.model.identity import NAME_FORM

CREATE = "create"  # among a bind's options: its source is made where it is missing

_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_MODE_GROUPS = (
    frozenset({"rw", "ro"}),
    frozenset({"z", "Z"}),
    _PROPAGATION,
    frozenset({"consistent", "cached", "delegated"}),
    frozenset({"nocopy"}),
)
_MODES = frozenset().union(*_MODE_GROUPS)
_TMPFS_FLAGS = frozenset(
    {
        "exec", "noexec", "suid", "nosuid", "dev", "nodev", "ro", "rw", "rro", "sync", "async", "dirsync", "atime",
        "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "mand",
        "nomand", "remount", "bind", "rbind", "unbindable", "runbindable", "defaults", *_PROPAGATION,
    }
)  # fmt: skip
_TMPFS_VALUES = frozenset({"mode", "uid", "gid", "size", "nr_inodes", "nr_blocks", "mpol"})
_OPTIONS_OF = (
    ("bind", "BindOptions", "bind_options"),
    ("volume", "VolumeOptions", "volume_options"),
    ("image", "ImageOptions", "image_options"),
    ("tmpfs", "TmpfsOptions", "tmpfs_options"),
)


def _bad(kind: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f'invalid mount config for type "{kind}": {reason}')


def _destination(kind: str, path: str) -> str:
    """A clean absolute destination below the root; raises InvalidArgument."""
    if not path:
        raise _bad(kind, "field Target must not be empty")
    if not path.startswith("/"):
        raise _bad(kind, f"invalid mount path: '{path}' mount path must be absolute")
    cleaned = clean(path)
    if cleaned == "/":
        raise _bad(kind, "invalid specification: destination can't be '/'")
    return cleaned


def clean(path: str) -> str:
    """An absolute path without `.`, `..` and doubled slashes."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def _check_volume_name(name: str) -> None:
    if not NAME_FORM.fullmatch(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, '
            'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def parse_bind(text: str, driver: str = "") -> MountPoint:
    """One `-v`: `[source:]destination[:mode]`; raises InvalidArgument with Docker's words."""
    parts = text.split(":")
    whole = f"invalid volume specification: '{text}'"
    if len(parts) > 3 or not parts[0] or not all(parts[:2]):
        raise InvalidArgument(whole)
    source, path = (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])
    mode = parts[2] if len(parts) == 3 else ""
    words = mode.split(",") if mode else []
    check_mode(words, mode)
    kind = "bind" if source.startswith("/") else "volume"
    propagation = next((word for word in words if word in _PROPAGATION), "")
    try:
        destination = _destination(kind, path)
        if kind == "bind" and "nocopy" in words:
            raise _bad(kind, "field VolumeOptions must not be specified")
        if kind == "volume" and propagation:
            raise _bad(kind, "field BindOptions must not be specified")
    except InvalidArgument as error:
        raise InvalidArgument(f"{whole}: {error.message}") from None
    read_write = "ro" not in words
    if kind == "bind":
        return MountPoint(
            "bind", destination, clean(source), mode=mode, read_write=read_write,
            propagation=propagation or "rprivate", options=(CREATE,),
        )  # fmt: skip
    if source:
        _check_volume_name(source)
    return MountPoint(
        "volume", destination, name=source, driver=driver or "local", mode=mode or "z", read_write=read_write,
        no_copy="nocopy" in words, anonymous=not source,
    )  # fmt: skip


def check_mode(words: Iterable[str], mode: str) -> None:
    """At most one word of each kind; raises InvalidArgument."""
    given = list(words)
    if not set(given) <= _MODES or any(sum(word in group for word in given) > 1 for group in _MODE_GROUPS):
        raise InvalidArgument(f"invalid mode: {mode}")


def parse_mount(request: MountRequest) -> MountPoint:
    """One `--mount`; raises InvalidArgument with Docker's words."""
    kind = request.type
    if not request.target:
        raise _bad(kind, "field Target must not be empty")
    if kind not in ("bind", "volume", "tmpfs", "image"):
        raise _bad(kind, "mount type unknown")
    for other, name, field in _OPTIONS_OF:
        if other != kind and getattr(request, field) is not None:
            raise InvalidArgument(f'{name} must not be specified on mount type "{kind}"')
    destination = _destination(kind, request.target)
    if kind == "bind":
        return _bind(request, destination)
    if kind == "volume":
        return _volume(request, destination)
    if kind == "image":
        if not request.source:
            raise _bad(kind, "field Source must not be empty")
        subpath = request.image_options.subpath if request.image_options else ""
        _check_subpath(kind, subpath)
        return MountPoint(
            "image", destination, request.source, name=request.source, read_write=False, propagation="rprivate",
            subpath=subpath,
        )  # fmt: skip
    if request.source:
        raise _bad(kind, "field Source must not be specified")
    return MountPoint("tmpfs", destination, read_write=not request.read_only, options=_tmpfs_options(request))


def _bind(request: MountRequest, destination: str) -> MountPoint:
    if not request.source:
        raise _bad("bind", "field Source must not be empty")
    if not request.source.startswith("/"):
        raise _bad("bind", f"invalid mount path: '{request.source}' mount path must be absolute")
    options = request.bind_options
    propagation = options.propagation if options else ""
    if propagation and propagation not in _PROPAGATION:
        raise _bad("bind", f"invalid propagation mode: {propagation}")
    return MountPoint(
        "bind", destination, clean(request.source), read_write=not request.read_only,
        propagation=propagation or "rprivate", options=(CREATE,) if options and options.create_mountpoint else (),
    )  # fmt: skip


def _volume(request: MountRequest, destination: str) -> MountPoint:
    options = request.volume_options
    subpath = options.subpath if options else ""
    if not request.source:
        if subpath:
            raise _bad("volume", "must not set Subpath when using anonymous volumes")
        if request.read_only:
            raise _bad("volume", "must not set ReadOnly mode when using anonymous volumes")
    _check_subpath("volume", subpath)
    if request.source:
        _check_volume_name(request.source)
    driver = options.driver_config if options else None
    return MountPoint(
        "volume", destination, name=request.source, driver=(driver.name if driver else "") or "local", mode="z",
        read_write=not request.read_only, no_copy=bool(options and options.no_copy), subpath=subpath,
        anonymous=not request.source,
    )  # fmt: skip


def _check_subpath(kind: str, subpath: str) -> None:
    if subpath and (subpath.startswith("/") or ".." in posixpath.normpath(subpath).split("/")):
        raise _bad(kind, f"subpath must be a relative path within the {kind}")


def _tmpfs_options(request: MountRequest) -> tuple[str, ...]:
    found = ["ro"] if request.read_only else []
    if (asked := request.tmpfs_options) is None:
        return tuple(found)
    if asked.size_bytes > 0:
        found.append(f"size={asked.size_bytes}")
    if asked.mode:
        found.append(f"mode={asked.mode:o}")
    for option in asked.options or ():
        text = "=".join(option)
        known = _TMPFS_FLAGS if len(option) == 1 else _TMPFS_VALUES
        if not 1 <= len(option) <= 2 or option[0] not in known:
            raise _bad("tmpfs", f"invalid option: {text}")
        found.append(text)
    return tuple(found)


def inherited_mounts(
    specifications: Iterable[str] | None, mounts_of: Callable[[str], Iterable[MountPoint]]
) -> list[MountPoint]:
    """`--volumes-from CONTAINER[:MODE]`: binds and volumes of other containers; nothing is copied into them again."""
    found: list[MountPoint] = []
    for text in specifications or ():
        name, _, mode = text.partition(":")
        if not name:
            raise InvalidArgument("volumes-from specification cannot be an empty string")
        words = mode.split(",") if mode else []
        if set(words) & (_PROPAGATION | {"nocopy"}):
            raise InvalidArgument(f"invalid mode: {mode}")
        check_mode(words, mode)
        for mount in mounts_of(name):
            if mount.type == "tmpfs":
                continue
            writable = mount.read_write and "ro" not in words
            found.append(
                msgspec.structs.replace(
                    mount, read_write=writable, mode=mode or mount.mode, no_copy=True, anonymous=False
                )
            )
    return found


def check_tmpfs(tmpfs: Mapping[str, str] | None) -> set[str]:
    """The destinations of `--tmpfs`; raises InvalidArgument."""
    found = set()
    for path, text in (tmpfs or {}).items():
        for option in filter(None, text.split(",")):
            key, equals, _ = option.partition("=")
            if key not in (_TMPFS_VALUES if equals else _TMPFS_FLAGS):
                raise InvalidArgument(f'invalid tmpfs option "{option}"')
        try:
            found.add(_destination("tmpfs", path))
        except InvalidArgument as error:
            raise InvalidArgument(error.message.partition(": ")[2]) from None
    return found


def requested_mounts(config: ContainerConfig, host: HostConfig, inherited: Iterable[MountPoint]) -> list[MountPoint]:
    """All mounts of one container, the outer before the inner: volumes-from, over them binds and mounts, then volumes.

    `--tmpfs` only takes its places: the runtime mounts it from the host configuration.
    """
    found: dict[str, MountPoint] = {mount.destination: mount for mount in inherited}
    taken: set[str] = set()

    def put(mount: MountPoint) -> None:
        if mount.destination in taken:
            raise InvalidArgument(f"Duplicate mount point: {mount.destination}")
        taken.add(mount.destination)
        found[mount.destination] = mount

    for text in host.binds or ():
        put(parse_bind(text, host.volume_driver))
    tmpfs = check_tmpfs(host.tmpfs)
    for destination in tmpfs & taken:
        raise InvalidArgument(f"Duplicate mount point: {destination}")
    for request in host.mounts or ():
        put(parse_mount(request))
    for path in config.volumes or ():
        destination = clean(path)
        if destination == "/":
            raise InvalidArgument(f"invalid volume specification: '{path}': destination can't be '/'")
        if destination not in found and destination not in tmpfs:
            found[destination] = MountPoint("volume", destination, driver=host.volume_driver or "local", anonymous=True)
    return sorted(found.values(), key=lambda mount: mount.destination.count("/"))
