"""Everything of a task's start that blocks: its directory, mounts and configuration, and the start of conmon."""

import contextlib
import errno
import os
import posixpath
from pathlib import Path
from typing import Any

import msgspec

from gantry import faults
from gantry.errors import Internal, InvalidArgument
from gantry.linux.mount import MS_BIND, MS_REC, mount, mount_raw, unmount_all
from gantry.linux.openat2 import openat2
from gantry.linux.userns import filesystem_ids, mount_shifted
from gantry.model.remap import Remap
from gantry.model.task import ExecSpec, Mount, TaskSpec
from gantry.runtime import cdi, defaults, devices, rootfs, users
from gantry.runtime.bundle import Bundle, Intent
from gantry.runtime.facts import HostFacts
from gantry.runtime.mounts import uses_shared_shm
from gantry.runtime.spec import Resolved, build, process_document
from gantry.trace import span


class _Granted(msgspec.Struct):
    """What an exec takes from its container's own configuration."""

    process: dict[str, Any]
    mounts: list[dict[str, Any]] = []


def prepare(bundle: Bundle, spec: TaskSpec, intent: Intent, facts: HostFacts, donor_shm: str) -> dict[str, Any]:
    """Make the bundle's directory and mounts; returns its configuration, which is still to be written.

    Raises GantryError; what was made before is undone by `release`.
    """
    remap = facts.remap.of(spec.host_config) if facts.remap else None
    if remap is not None and not spec.netns:
        raise InvalidArgument("cannot share the host's network namespace when user namespaces are enabled")
    with span("bundle directory"):
        bundle.rootfs.mkdir(parents=True)
        os.chmod(bundle.path, 0o700)
        if remap is not None:  # the container's root must come to its root directory
            os.chown(bundle.path, 0, remap.gid)
            os.chmod(bundle.path, 0o710)  # noqa: S103
        bundle.write("task.json", intent)
        faults.point("task.intent")
    with span("mount"):
        if remap is not None:
            spec = _shifted(spec, remap)
        with _ids(remap):
            _mount_root(bundle, spec)
            spec = _mount_images(bundle, spec)
        if intent.shm:
            _mount_shm(Path(intent.shm), spec, remap)
        if remap is not None and spec.own_mounts:
            spec = _shift_lent(bundle, spec, remap)
        spec = _resolve_subpaths(bundle, spec)
        faults.point("task.mounted")
    with span("configuration"):
        user = users.resolve(
            bundle.rootfs, spec.process.user, (*spec.process.groups, *(spec.host_config.group_add or ()))
        )
        with _ids(remap):
            _touch_root(bundle, spec)
        if remap is not None:
            _hand_over(spec, remap)
        resolved = Resolved(
            user=user,
            devices=devices.resolve(spec.host_config),
            facts=facts,
            root=str(bundle.rootfs),
            cgroups_path=intent.cgroup,
            shm=intent.shm or donor_shm,
            files=frozenset(point.source for point in spec.mounts if not os.path.isdir(point.source)),
        )
        document = build(spec, resolved)
        if requests := spec.host_config.device_requests:
            registry = cdi.Registry.load(facts.cdi_directories)
            cdi.inject(document, registry.edits(cdi.names_of(requests, registry)))
        return document


def write_configuration(bundle: Bundle, document: dict[str, Any]) -> None:
    bundle.config.write_bytes(msgspec.json.encode(document))


def intent_of(bundle: Bundle, spec: TaskSpec, runtime: str, cgroup: str) -> Intent:
    """What is written down before anything is made."""
    shm = str(bundle.path / "shm") if uses_shared_shm(spec.host_config) else ""
    images = [str(_image_target(bundle, index)) for index, point in enumerate(spec.mounts) if point.type == "image"]
    lent = [str(_lent_target(bundle, index)) for index in range(len(spec.mounts))] if spec.own_mounts else []
    alone = _not_recursive(spec)
    subpaths = [
        str(_subpath_target(bundle, index))
        for index, point in enumerate(spec.mounts)
        if point.subpath or point.destination in alone
    ]
    return Intent(
        id=spec.id,
        runtime=runtime,
        cgroup=cgroup,
        tty=spec.process.tty,
        stdin=spec.process.stdin,
        stdin_once=spec.stdin_once,
        own_network=bool(spec.netns) and not spec.host_config.network_mode.startswith("container:"),
        mounts=(str(bundle.rootfs), *([shm] if shm else []), *images, *subpaths, *lent),
        shm=shm,
    )


def release(bundle: Bundle) -> None:
    """Unmount and remove everything of a task whose processes have ended. Idempotent."""
    intent = bundle.read_intent()
    for target in reversed(intent.mounts if intent else (str(bundle.rootfs),)):
        unmount_all(Path(target))
    faults.point("task.unmounted")
    bundle.remove()


def exec_document(bundle: Bundle, spec: ExecSpec, facts: HostFacts) -> dict[str, Any]:
    """The `process` of an exec: the container's own limits and privileges, unless it is privileged itself."""
    own = msgspec.json.decode(bundle.config.read_bytes(), type=_Granted)
    process = spec.process
    user = users.resolve(bundle.rootfs, process.user, process.groups)
    granted = facts.capabilities if process.privileged else tuple(own.process["capabilities"]["bounding"])
    lent = any(entry["destination"] == defaults.CA_BUNDLE_PATH for entry in own.mounts)
    document = process_document(process, user, tuple(granted), args=list(process.args), ca_bundle=lent)
    for key in ("noNewPrivileges", "oomScoreAdj", "rlimits", "apparmorProfile"):
        if key in own.process and not (key == "apparmorProfile" and process.privileged):
            document[key] = own.process[key]
    return document


def log_argument(bundle: Bundle, log_path: str) -> str:
    """The log's path as conmon can take it: a colon would end it, so such a directory gets another name."""
    if ":" not in log_path:
        return log_path
    link = bundle.path / "log"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(posixpath.dirname(log_path))
    return str(link / posixpath.basename(log_path))


def _shifted(spec: TaskSpec, remap: Remap) -> TaskSpec:
    """All file systems of images with the ids of the container's user namespace."""
    images = {place: remap.shifted(mounts) for place, mounts in spec.images.items()}
    points = spec.mounts
    if spec.own_mounts:
        points = tuple(msgspec.structs.replace(point, source=remap.path(point.source)) for point in points)
    return msgspec.structs.replace(spec, rootfs=remap.shifted(spec.rootfs), images=images, mounts=points)


def _ids(remap: Remap | None) -> contextlib.AbstractContextManager[None]:
    """What is mounted and made here belongs to the container's root."""
    return filesystem_ids(remap.uid, remap.gid) if remap is not None else contextlib.nullcontext()


def _hand_over(spec: TaskSpec, remap: Remap) -> None:
    """The files that the network made are the container root's own, as the rest of /etc."""
    for path in (spec.hosts_file, spec.hostname_file, spec.resolv_conf_file):
        if path:
            os.chown(path, remap.uid, remap.gid, follow_symlinks=False)


def _mount_root(bundle: Bundle, spec: TaskSpec) -> None:
    for request in spec.rootfs:
        target = bundle.rootfs / request.target.lstrip("/") if request.target else bundle.rootfs
        try:
            mount(request, target)
        except OSError as error:
            raise Internal(f"cannot mount the root file system of container {spec.id}: {error.strerror}") from error
    if not spec.rootfs:
        mount(Mount("bind", str(bundle.rootfs), options=("bind", "private")), bundle.rootfs)


def _mount_shm(target: Path, spec: TaskSpec, remap: Remap | None) -> None:
    target.mkdir(exist_ok=True)
    size = spec.host_config.shm_size or defaults.SHM_SIZE
    if not os.path.ismount(target):
        mount(Mount("tmpfs", "shm", options=("nosuid", "noexec", "nodev", "mode=1777", f"size={size}")), target)
        if remap is not None:
            os.chown(target, remap.uid, remap.gid)


def _image_target(bundle: Bundle, index: int) -> Path:
    return bundle.path / "images" / str(index)


def _mount_images(bundle: Bundle, spec: TaskSpec) -> TaskSpec:
    """Mount the images that the container mounts; its own mounts are binds of them."""
    points = list(spec.mounts)
    for index, point in enumerate(points):
        if point.type != "image":
            continue
        target = _image_target(bundle, index)
        target.mkdir(parents=True)
        for request in spec.images[point.destination]:
            try:
                mount(request, target)
            except OSError as error:
                raise Internal(f"cannot mount image {point.source}: {error.strerror}") from error
        points[index] = msgspec.structs.replace(point, source=str(target))
    return msgspec.structs.replace(spec, mounts=tuple(points))


def _subpath_target(bundle: Bundle, index: int) -> Path:
    return bundle.path / "subpaths" / str(index)


def _resolve_subpaths(bundle: Bundle, spec: TaskSpec) -> TaskSpec:
    """Pin each volume's subdirectory by a mount of our own: its path is the volume's content, so not to be trusted.

    What is not to be mounted recursively, too: crun takes everything below with it, whatever it is told.
    """
    points = list(spec.mounts)
    alone = _not_recursive(spec)
    for index, point in enumerate(points):
        target = _subpath_target(bundle, index)
        if not point.subpath and point.destination in alone and os.path.isdir(point.source):
            target.mkdir(parents=True)
            mount_raw(point.source, target, "", MS_BIND, "")
            points[index] = msgspec.structs.replace(point, source=str(target))
        if not point.subpath:
            continue
        top = os.open(point.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            inside = openat2(top, point.subpath, os.O_PATH)
            try:
                target.parent.mkdir(exist_ok=True)
                if Path(f"/proc/self/fd/{inside}").is_dir():
                    target.mkdir()
                else:
                    target.touch()
                mount_raw(f"/proc/self/fd/{inside}", target, "", MS_BIND | MS_REC, "")
            finally:
                os.close(inside)
        except OSError as error:
            raise InvalidArgument(
                f"cannot access path {point.source}/{point.subpath}: "
                f"lstat {point.source}/{point.subpath}: {(error.strerror or '').lower()}"
            ) from error
        finally:
            os.close(top)
        points[index] = msgspec.structs.replace(point, source=str(target), subpath="")
    return msgspec.structs.replace(spec, mounts=tuple(points))


def _lent_target(bundle: Bundle, index: int) -> Path:
    return bundle.path / "lent" / str(index)


def _shift_lent(bundle: Bundle, spec: TaskSpec, remap: Remap) -> TaskSpec:
    """Secrets and agents' sockets lie outside the data root: each gets a mount of its own with shifted ids."""
    points = list(spec.mounts)
    for index, point in enumerate(points):
        if point.type != "bind" or point.source.startswith(remap.view + "/") or os.path.isdir(point.source):
            continue
        target = _lent_target(bundle, index)
        target.parent.mkdir(exist_ok=True)
        target.touch()
        try:
            mount_shifted(Path(point.source), target, Path(remap.namespace))
        except OSError as error:
            # A file of an image, whose mount has shifted ids already (EINVAL is overlayfs's answer, EPERM a bind's).
            if error.errno in (errno.EINVAL, errno.EPERM):
                continue
            raise Internal(f"cannot mount {point.source}: {error.strerror}") from error
        points[index] = msgspec.structs.replace(point, source=str(target))
    return msgspec.structs.replace(spec, mounts=tuple(points))


def _not_recursive(spec: TaskSpec) -> set[str]:
    """The destinations of binds that leave out what is mounted below their source."""
    return {
        request.target
        for request in spec.host_config.mounts or ()
        if request.bind_options is not None and request.bind_options.non_recursive
    }


def _touch_root(bundle: Bundle, spec: TaskSpec) -> None:
    try:
        rootfs.add_marks(bundle.rootfs)
        if spec.process.cwd not in ("", "/"):
            rootfs.make_directory(bundle.rootfs, spec.process.cwd)
    except OSError as error:
        if error.errno != errno.EROFS:  # a root file system that is mounted read-only stays as it is
            raise Internal(f"cannot prepare the root file system of container {spec.id}: {error.strerror}") from error
