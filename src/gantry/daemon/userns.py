"""`userns-remap`: whose subordinate ids the containers get, and the user namespace and mount that give them.

subuid(5), subgid(5). The namespace is pinned at `<exec root>/userns/namespace`, the shifted view of the data root is
`<exec root>/userns/view`; both are mounts of the daemon's own mount namespace and end with it.
"""

import grp
import logging
import pwd
from pathlib import Path

import msgspec

from gantry.errors import Internal, InvalidArgument, Unavailable
from gantry.linux.mount import is_mounted, unmount_all
from gantry.linux.process import run
from gantry.linux.userns import make_user_namespace, mount_shifted
from gantry.model.instance import Instance
from gantry.model.remap import Remap
from gantry.runtime.facts import kernel_version

log = logging.getLogger(__name__)

DEFAULT_USER = "dockremap"
_SUBUID, _SUBGID = Path("/etc/subuid"), Path("/etc/subgid")
_FIRST, _COUNT = 100_000, 65_536
_NEEDED_KERNEL = (5, 19)  # overlayfs on layers with shifted ids


def prepare(value: str, instance: Instance) -> Remap | None:
    """Everything that `userns-remap` needs (blocking, some tens of milliseconds); None where it is not set.

    Raises InvalidArgument for users and ranges that are not there, Unavailable where the kernel cannot.
    """
    if not value:
        return None
    if kernel_version() < _NEEDED_KERNEL:
        raise Unavailable(
            "userns-remap needs Linux 5.19 or newer (overlayfs on idmapped mounts); this is "
            + ".".join(map(str, kernel_version()))
        )
    user, group = find_user(value)
    uid, uids = subordinate_range(_SUBUID, user)
    gid, gids = subordinate_range(_SUBGID, group)
    log.info("User namespaces: ids of containers start at %d:%d (%s:%s)", uid, gid, user, group)
    directory = instance.exec_root / "userns"
    remap = Remap(uid, uids, gid, gids, str(directory / "namespace"), str(instance.data_root), str(directory / "view"))
    try:
        _mount(remap, directory)
    except OSError as error:
        raise Unavailable(f"userns-remap: this kernel or file system cannot shift ids: {error}") from error
    return remap


def _mount(remap: Remap, directory: Path) -> None:
    """Make what is not there: a namespace with another mapping is given up."""
    namespace, view, record = Path(remap.namespace), Path(remap.view), directory / "map.json"
    directory.mkdir(mode=0o711, exist_ok=True)
    view.mkdir(mode=0o711, exist_ok=True)
    if not namespace.exists():  # a pinned namespace takes no new times
        namespace.touch(mode=0o600)
    wanted = msgspec.json.encode(remap)
    same = record.exists() and record.read_bytes() == wanted
    if same and is_mounted(namespace) and is_mounted(view):
        return
    for place in (view, namespace):
        unmount_all(place)
    record.write_bytes(wanted)
    make_user_namespace(namespace, (remap.uid, remap.uids), (remap.gid, remap.gids))
    mount_shifted(Path(remap.source), view, namespace)


def find_user(value: str) -> tuple[str, str]:
    """The names behind `default`, `user`, `user:group`, `uid` or `uid:gid`; raises InvalidArgument."""
    user, colon, group = value.partition(":")
    if not user or (colon and not group) or ":" in group:
        raise InvalidArgument(f'invalid user/group specification in --userns-remap: "{value}"')
    if user == "default":
        if colon:
            raise InvalidArgument(f'invalid user/group specification in --userns-remap: "{value}"')
        _make_default_user()
        user = DEFAULT_USER
    try:
        found = pwd.getpwuid(int(user)) if user.isascii() and user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise InvalidArgument(f"userns-remap: cannot find user {user}") from None
    group = group or found.pw_name
    try:
        owner = grp.getgrgid(int(group)) if group.isascii() and group.isdecimal() else grp.getgrnam(group)
    except (KeyError, OverflowError):
        raise InvalidArgument(f"userns-remap: cannot find group {group}") from None
    if found.pw_uid == 0:
        raise InvalidArgument("userns-remap: containers' root cannot be mapped to root itself")
    return found.pw_name, owner.gr_name


def subordinate_range(file: Path, name: str) -> tuple[int, int]:
    """The first range of a user or group: (first id, how many); raises InvalidArgument where there is none."""
    kind = "subuid" if file.name == "subuid" else "subgid"
    for owner, first, count in read_ranges(file):
        if owner == name and count > 0:
            return first, count
    raise InvalidArgument(f'no {kind} ranges found for {"user" if kind == "subuid" else "group"} "{name}" in {file}')


def read_ranges(file: Path) -> list[tuple[str, int, int]]:
    """All lines (owner, first id, how many) of subuid(5) or subgid(5); what is no such line is passed over."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        parts = line.strip().split(":")
        if len(parts) == 3 and all(part.isascii() and part.isdecimal() for part in parts[1:]):
            found.append((parts[0], int(parts[1]), int(parts[2])))
    return found


def _make_default_user() -> None:
    """User and group `dockremap`, with ranges that nobody else has."""
    try:
        pwd.getpwnam(DEFAULT_USER)
    except KeyError:
        _tool("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", DEFAULT_USER)
    for file, option in ((_SUBUID, "--add-subuids"), (_SUBGID, "--add-subgids")):
        ranges = read_ranges(file)
        if not any(owner == DEFAULT_USER for owner, _, _ in ranges):
            first = max((_FIRST, *(start + count for _, start, count in ranges)))
            _tool("usermod", option, f"{first}-{first + _COUNT - 1}", DEFAULT_USER)


def _tool(*command: str) -> None:
    try:
        done = run(command)
    except FileNotFoundError:
        raise Unavailable(f"userns-remap: {command[0]} was not found (apt-get install passwd)") from None
    if done.code:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise Internal(f"userns-remap: {' '.join(command)}: {said}")
