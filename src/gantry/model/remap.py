"""What `userns-remap` means: the ids of containers are other ids on the host."""

import re

import msgspec

from gantry.model.container import HostConfig
from gantry.model.task import Mount

OVERFLOW_ID = 65534  # what the kernel shows for an id that has no place in a user namespace
_LAYER_OPTIONS = ("lowerdir", "upperdir", "workdir")


class Remap(msgspec.Struct, frozen=True):
    """Container ids 0 to `uids`-1 are `uid` and following on the host; the same for groups.

    `namespace` is the file that pins the user namespace, `view` a mount of the directory `source` (the data
    root) on which the ids of files are shifted alike: what the disk has as root's is the container root's there.
    """

    uid: int
    uids: int
    gid: int
    gids: int
    namespace: str = ""
    source: str = ""
    view: str = ""

    def of(self, host: HostConfig) -> "Remap | None":
        """What applies to a container: nothing with `--userns=host`."""
        return None if host.userns_mode == "host" else self

    def shifted(self, mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
        """Mounts of what is below the data root, over the view instead of the directory itself."""
        return tuple(self._shifted(mount) for mount in mounts)

    def _shifted(self, mount: Mount) -> Mount:
        if mount.type != "overlay":
            return msgspec.structs.replace(mount, source=self.path(mount.source))
        return msgspec.structs.replace(mount, options=tuple(self._option(option) for option in mount.options))

    def path(self, path: str) -> str:
        """Where the view shows what is at `path`; what is not below the data root stays where it is."""
        return self.view + path[len(self.source) :] if path.startswith(self.source + "/") else path

    def _option(self, option: str) -> str:
        key, equals, value = option.partition("=")
        if key not in _LAYER_OPTIONS:
            return option
        before, after = (_escaped(path, colons=key == "lowerdir") + "/" for path in (self.source, self.view))
        if key != "lowerdir":
            return key + equals + (after + value.removeprefix(before) if value.startswith(before) else value)
        starts = re.compile(rf"(?<![^:])(?<!\\:){re.escape(before)}")  # a colon that is escaped begins no path
        return key + equals + starts.sub(lambda _: after, value)

    def to_host(self, uid: int, gid: int) -> tuple[int, int]:
        """Ids of an archive's entry on the host; what the container has not becomes nobody's there."""
        return (
            self.uid + (uid if uid < self.uids else min(OVERFLOW_ID, self.uids - 1)),
            self.gid + (gid if gid < self.gids else min(OVERFLOW_ID, self.gids - 1)),
        )

    def to_container(self, uid: int, gid: int) -> tuple[int, int]:
        """Ids of a file as the container sees it."""
        return (
            uid - self.uid if 0 <= uid - self.uid < self.uids else OVERFLOW_ID,
            gid - self.gid if 0 <= gid - self.gid < self.gids else OVERFLOW_ID,
        )


def _escaped(path: str, *, colons: bool) -> str:
    """As overlay's options write a path."""
    text = path.replace("\\", "\\\\").replace(",", "\\,")
    return text.replace(":", "\\:") if colons else text


def refusal(host: HostConfig) -> str:
    """Why a container cannot run in a user namespace of its own, "" where it can (Docker's words)."""
    if host.userns_mode == "host":
        return ""
    if host.privileged:
        return (
            "privileged mode is incompatible with user namespaces.  "
            "You must run the container in the host namespace when running privileged mode"
        )
    if host.network_mode == "host":
        return "cannot share the host's network namespace when user namespaces are enabled"
    if host.pid_mode == "host":
        return "cannot share the host PID namespace when user namespaces are enabled"
    return ""
