"""Every Protocol between rooms, on one page.

Methods that are `def` block (short disk or system calls) and are called through `gantry.aio.run_blocking`
from asynchronous code; methods that are `async def` never block the event loop.
"""

import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self, TypeVar

import msgspec

from gantry.errors import GantryError
from gantry.model.container import Container, ContainerConfig, HostConfig
from gantry.model.event import Event
from gantry.model.image import Descriptor, HistoryEntry, Image
from gantry.model.kernel import KernelLimits
from gantry.model.network import IPAM, Endpoint, EndpointSettings, Network, Sandbox
from gantry.model.platform import Platform
from gantry.model.reference import Reference
from gantry.model.task import ExecSpec, ExitStatus, Mount, TaskSpec, TaskState
from gantry.model.volume import Volume

T = TypeVar("T")

# --------------------------------------------------------------------------------------------- content


class BlobInfo(msgspec.Struct, frozen=True):
    """A stored blob: `size` in bytes, `modified_at` nanoseconds since the epoch."""

    digest: str
    size: int
    modified_at: int


class BlobWriter(Protocol):
    """Receives one blob. Leaving its `with` block without `commit` discards what was written."""

    def write(self, data: bytes | memoryview) -> int: ...

    def commit(self, digest: str = "", size: int = -1) -> BlobInfo:
        """Publish the blob; raises InvalidArgument where digest or size differ from what is given."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class PartialBlob(Protocol):
    """A blob on its way in, in pieces and any order; what has come is kept when the daemon ends."""

    @property
    def resumed(self) -> int:
        """The bytes that were there from an earlier attempt."""
        ...

    def missing(self) -> list[tuple[int, int]]:
        """What has not come: (from, to) in order."""
        ...

    def write(self, offset: int, pieces: Sequence[bytes]) -> None:
        """Put bytes at their place; InvalidArgument beyond the blob's end."""
        ...

    def fail(self, error: GantryError) -> None:
        """Nothing more will come: the follower gets this error where it would wait."""
        ...

    def follow(self) -> BinaryIO:
        """The blob from its beginning; waits for what has not come; InvalidArgument at the end for a wrong digest."""
        ...

    def verify(self) -> None:
        """Compare the digest, when nothing is missing; InvalidArgument for a wrong one."""
        ...

    def sync(self) -> None:
        """Bring what has come to the disk."""
        ...

    def commit(self) -> BlobInfo:
        """Verify what was not followed, and publish; InvalidArgument for a wrong digest."""
        ...

    def close(self) -> None:
        """Let go; what has come stays for another time."""
        ...

    def discard(self) -> None:
        """Let go, and keep nothing."""
        ...


class ContentStore(Protocol):
    """Blobs by digest, in an OCI image layout."""

    def open(self, digest: str) -> BinaryIO:
        """A blob's bytes; raises NotFound."""
        ...

    def read(self, digest: str, limit: int) -> bytes:
        """A whole small blob; raises NotFound, or InvalidArgument beyond `limit` bytes."""
        ...

    def stat(self, digest: str) -> BlobInfo:
        """Raises NotFound."""
        ...

    def walk(self) -> Iterator[BlobInfo]: ...

    def delete(self, digest: str) -> None:
        """Remove a blob; nothing happens where there is none."""
        ...

    def publish_index(self, data: bytes) -> None:
        """Replace the layout's `index.json`, for readers of the layout."""
        ...

    def writer(self) -> BlobWriter: ...

    def partial(self, digest: str, size: int) -> PartialBlob:
        """Begin or resume a blob that comes in pieces; Conflict while another one does so."""
        ...

    def forget_partials(self, among: Collection[str] | None = None, *, older: int = 0) -> int:
        """Remove what came of blobs (`among` digests: None for any) that nobody is writing; returns bytes.

        What was touched in the last `older` nanoseconds stays.
        """
        ...


class SnapshotInfo(msgspec.Struct, frozen=True):
    """`kind` is committed, active or view; `parent` is "" at the bottom."""

    key: str
    kind: str
    parent: str
    created_at: int


class Snapshotter(Protocol):
    """Layered file systems (containerd's snapshot model). It returns mounts and never mounts.

    Committed snapshots are named by chain ID; active ones by their user's key (a container's id).
    """

    def prepare(self, key: str, parent: str, *, volatile: bool = False) -> tuple[Mount, ...]:
        """A writable snapshot on top of `parent` ("" for an empty one); Conflict where the key is taken.

        `volatile`: its files need not outlive the machine, so that unmounting waits for no disk.
        """
        ...

    def view(self, key: str, parent: str) -> tuple[Mount, ...]:
        """A read-only snapshot of `parent`."""
        ...

    def mounts(self, key: str, *, volatile: bool = False) -> tuple[Mount, ...]:
        """The mounts of an existing active snapshot; NotFound otherwise."""
        ...

    def commit(self, name: str, key: str) -> None:
        """Turn the active snapshot `key` into the committed `name`; Conflict where the name exists."""
        ...

    def remove(self, key: str) -> None:
        """Delete a snapshot; Conflict while another one builds on it; nothing happens where there is none."""
        ...

    def stat(self, key: str) -> SnapshotInfo:
        """Raises NotFound."""
        ...

    def walk(self) -> Iterator[SnapshotInfo]: ...

    def usage(self, key: str) -> int:
        """Bytes of the files of this snapshot itself; counted once for a committed one."""
        ...

    def upper(self, key: str) -> Path:
        """The directory that holds an active snapshot's own changes."""
        ...


class LayerInfo(msgspec.Struct, frozen=True):
    """A layer that is stored and unpacked: `size` of the blob, `unpacked_size` of its tar, in bytes."""

    digest: str
    diff_id: str
    size: int
    unpacked_size: int
    media_type: str


class Layers(Protocol):
    """From layer blobs to snapshots and back (OCI image layer specification)."""

    def unpack(self, digest: str, diff_id: str, parent: str) -> str:
        """Unpack one stored layer on top of chain `parent`; returns the new chain ID.

        Safe to call twice at once; raises InvalidArgument where the diff ID differs or the tar is hostile.
        """
        ...

    def extract(self, stream: BinaryIO, diff_id: str, *, bottom: bool, limit: int = -1) -> str:
        """Unpack one layer from a (compressed) stream on its own, before the layers below it are there.

        Returns a key for `place`; InvalidArgument where the diff ID differs, the tar is hostile, or more than `limit`
        bytes come out of it.
        """
        ...

    def place(self, key: str, diff_id: str, parent: str) -> str:
        """Put what `extract` made on top of chain `parent`; returns the new chain ID."""
        ...

    def drop(self, key: str) -> None:
        """Forget what `extract` made; nothing happens where it was placed."""
        ...

    def capture(self, key: str) -> LayerInfo:
        """Store the changes of active snapshot `key` against its parent as a layer blob."""
        ...

    def changes(self, key: str) -> list[tuple[int, str]]:
        """The changes of an active snapshot against its parent: (0 modified, 1 added, 2 deleted), path."""
        ...

    def mounted(self, mounts: Sequence[Mount], *, shifted: bool = False) -> AbstractContextManager[Path]:
        """Mount at a private place for the length of a `with` block; those with a target inside it (blocking).

        With `shifted`, ids are the host's of containers in the user namespace.
        """
        ...


class Table(msgspec.Struct, frozen=True):
    """A table of the state: records of `type`, by key; `unique` names a field that no two records share."""

    name: str
    type: Any
    unique: str = ""


class Transaction(Protocol):
    """Reads and writes inside one `view()` or `update()`; nothing else happens inside."""

    def get(self, table: Table, key: str) -> Any | None: ...

    def find(self, table: Table, unique_value: str) -> Any | None: ...

    def list(self, table: Table) -> Sequence[Any]: ...

    def put(self, table: Table, key: str, record: Any) -> None:
        """Insert or replace; raises Conflict where another record has the unique value."""
        ...

    def delete(self, table: Table, key: str) -> None: ...


class State(Protocol):
    """The daemon's memory (SQLite, WAL). `update` is durable when its block has ended without error."""

    def view(self) -> AbstractContextManager[Transaction]: ...

    def update(self) -> AbstractContextManager[Transaction]: ...

    def close(self) -> None: ...


class Leases(Protocol):
    """Shields blobs and snapshots from the garbage collector while something is being made of them."""

    def lease(self, *resources: str) -> AbstractContextManager["LeaseHandle"]:
        """Shields what it names (digests, snapshot keys), and everything that is made while it is open."""
        ...

    def guard(self, resource: str, made_at: int) -> AbstractContextManager[bool]:
        """For the collector: whether some lease shields `resource`; none begins or grows inside the block."""
        ...


class LeaseHandle(Protocol):
    def add(self, *resources: str) -> None:
        """Shield further digests or snapshot keys."""
        ...


# ---------------------------------------------------------------------------------------------- images


class ProgressSink(Protocol):
    """Receives Docker's progress messages (`status`, `id`, `progressDetail`, `stream`, `error`, `aux`)."""

    def __call__(self, message: dict[str, Any], /) -> None: ...


class TransferReport(Protocol):
    """Hears of one blob's transfer: bytes that are through of all; or the seconds before another attempt."""

    def __call__(self, done: int, wait: float = 0) -> None: ...


class Remote(Protocol):
    """One repository at a registry, with one caller's credentials (OCI distribution specification).

    Errors say what the registry says: NotFound, Unauthorized, Forbidden; Unavailable where it does not answer, after
    all attempts; InvalidArgument for what is not as announced.
    """

    async def manifest(self, version: str) -> tuple[Descriptor, bytes]:
        """A manifest or index by tag or digest, verified."""
        ...

    async def tags(self) -> list[str]: ...

    async def fetch(self, blob: Descriptor, into: PartialBlob, report: TransferReport) -> None:
        """Fill in what is missing of a blob."""
        ...

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        """A small blob, verified; InvalidArgument beyond `limit` bytes."""
        ...

    async def has(self, digest: str) -> bool: ...

    async def mount(self, digest: str, source: str) -> bool:
        """Take a blob over from repository `source` of the same registry; False where that cannot be done."""
        ...

    async def send(self, blob: Descriptor, content: ContentStore, report: TransferReport) -> None:
        """Upload a blob."""
        ...

    async def put_manifest(self, version: str, media_type: str, data: bytes) -> str:
        """Publish a manifest or index under a tag or digest; returns its digest."""
        ...


class Registries(Protocol):
    """The registries of the world."""

    def repository(self, reference: Reference, auth: str, *, push: bool = False) -> Remote:
        """`auth` is the content of X-Registry-Auth, "" for nobody; InvalidArgument where it is malformed."""
        ...

    async def login(self, auth: str) -> str:
        """Check credentials; returns an identity token to be kept in place of the password, "" for none."""
        ...

    async def search(self, term: str, auth: str, limit: int) -> list[dict[str, Any]]:
        """Docker's search results: `name`, `description`, `star_count`, `is_official`, `is_automated`."""
        ...

    def download(self, url: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """What is at an http or https address; InvalidArgument for others."""
        ...

    async def close(self) -> None: ...


class Images(Protocol):
    """What containers and the builder need of images (implemented by `engine.images`)."""

    async def get(self, reference: str, platform: Platform | None = None) -> Image:
        """An image by name, digest or id prefix; NotFound "No such image: NAME" otherwise."""
        ...

    async def ensure_unpacked(self, image: Image) -> str:
        """Unpack what is not yet unpacked; returns the chain ID ("" for an image without layers)."""
        ...

    async def add(
        self,
        config: ContainerConfig,
        layers: Sequence[LayerInfo],
        history: Sequence[HistoryEntry],
        *,
        platform: Platform,
        parent: str = "",
        author: str = "",
        comment: str = "",
        created: str = "",
        extra: dict[str, Any] | None = None,
    ) -> Image:
        """Write configuration and manifest of a new image; the same content gives the same id."""
        ...

    async def tag(self, image_id: str, reference: str) -> None: ...

    async def pull(self, reference: str, platform: Platform | None, progress: ProgressSink, auth: str = "") -> Image:
        """Fetch from a registry."""
        ...

    async def layer_infos(self, image: Image) -> tuple[LayerInfo, ...]: ...


# --------------------------------------------------------------------------------------------- runtime


class AttachStream(Protocol):
    """A container's or exec's standard streams. Frames are (1 stdout | 2 stderr, bytes); tty is all 1."""

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]: ...

    async def write(self, data: bytes) -> None:
        """Standard input; waits while the process does not read. Ignored where input is not open."""
        ...

    async def close_stdin(self) -> None: ...

    async def close(self) -> None: ...


class Runtime(Protocol):
    """Makes processes. One object serves all OCI runtimes; `TaskSpec.runtime` chooses one by name."""

    async def create(self, spec: TaskSpec) -> TaskState:
        """Mount, write the bundle, start conmon and the runtime's `create`; the process waits for `start`.

        Idempotent undo on failure: nothing is left when it raises.
        """
        ...

    async def start(self, container_id: str) -> None:
        """Release the created process; InvalidArgument with the runtime's words where the command is bad."""
        ...

    async def exec(self, spec: ExecSpec) -> TaskState:
        """Start a further process; attach to it by (container_id, exec_id)."""
        ...

    async def check_user(self, container_id: str, user: str) -> None:
        """InvalidArgument where `user[:group]` names somebody whom the running container does not know."""
        ...

    async def kill(self, container_id: str, signal: int, exec_id: str = "") -> None:
        """Send a signal; NotFound or Conflict where the process has ended."""
        ...

    async def pause(self, container_id: str) -> None: ...

    async def resume(self, container_id: str) -> None: ...

    async def wait(self, container_id: str, exec_id: str = "") -> ExitStatus:
        """Returns when the process has ended; may be called by many, before and after the end."""
        ...

    async def state(self, container_id: str) -> TaskState | None:
        """None where nothing of this container is left; used to recover after a restart of the daemon."""
        ...

    async def delete(self, container_id: str) -> None:
        """Release everything of a stopped (or half-made) task: cgroup, mounts, bundle. Idempotent."""
        ...


class TaskStreams(Protocol):
    """Standard streams and terminals of running tasks."""

    async def attach(self, container_id: str, exec_id: str = "", *, stdin: bool = False) -> AttachStream:
        """Connect; output from now on. NotFound where the task does not run."""
        ...

    async def resize(self, container_id: str, height: int, width: int, exec_id: str = "") -> None: ...

    async def reopen_log(self, container_id: str) -> None:
        """Have the log's writer open its path anew; Conflict or NotFound where it has ended."""
        ...


class RuntimeInfo(msgspec.Struct, frozen=True):
    """One OCI runtime that was probed: `problem` says why it cannot be used, "" where it can."""

    name: str
    path: str
    version: str
    commit: str
    problem: str = ""
    args: tuple[str, ...] = ()


class TaskFacts(Protocol):
    """What can be asked about tasks and about the runtimes."""

    async def pids(self, container_id: str) -> list[int]:
        """All process ids of the container, as the host numbers them."""
        ...

    async def stats(self, container_id: str) -> dict[str, Any]:
        """Cgroup numbers in the shape of the Engine API (`cpu_stats`, `memory_stats`, `pids_stats`, …)."""
        ...

    async def update(self, container_id: str, host_config: HostConfig) -> None:
        """Apply changed resource limits to a running container."""
        ...

    def check(self, host_config: HostConfig) -> None:
        """Raises InvalidArgument for security options and device rules that say nothing to a runtime."""
        ...

    def kernel(self) -> KernelLimits:
        """Which limits this host's kernel can set."""
        ...

    async def devices(self) -> list[str]:
        """The devices that can be asked for by name (CDI), `vendor.com/class=name`."""
        ...

    def root(self, container_id: str) -> Path | None:
        """The running container's root directory as this process sees it, None where it does not run."""
        ...

    async def socket(self, container_id: str, family: int) -> socket.socket:
        """A TCP socket, not connected yet, in the running container's network; NotFound where it does not run."""
        ...

    def runtimes(self) -> dict[str, RuntimeInfo]: ...

    def default_runtime(self) -> str: ...

    def ids(self) -> list[str]:
        """Every container of which something is left on this machine, also from an earlier daemon."""
        ...

    def apparmor_profile(self, config: HostConfig) -> str:
        """The profile that confines such a container; "" where the kernel does not confine by profiles."""
        ...


# --------------------------------------------------------------------------------------------- network


class EndpointRequest(msgspec.Struct, frozen=True):
    """What one container asks of one network.

    `port_bindings` are as in HostConfig; they take effect on the network that leads outside.
    """

    settings: EndpointSettings
    hostname: str = ""
    names: tuple[str, ...] = ()
    port_bindings: dict[str, Any] = {}
    publish_all: bool = False
    exposed: tuple[str, ...] = ()


class NetworkRequest(msgspec.Struct, frozen=True):
    """`POST /networks/create` after decoding."""

    name: str
    driver: str = "bridge"
    internal: bool = False
    attachable: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    ipam: IPAM = IPAM()
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class Networks(Protocol):
    """Networks, sandboxes and endpoints of this host."""

    async def start(self, running: Sequence[str]) -> None:
        """Make or find the predefined networks and bring the host in line with the records.

        `running` are the containers that live; sandboxes and endpoints of others are removed.
        """
        ...

    async def create(self, request: NetworkRequest) -> Network: ...

    async def delete(self, network_id: str) -> None:
        """Forbidden while it has endpoints, and for the predefined ones."""
        ...

    async def get(self, name_or_id: str) -> Network:
        """NotFound "network NAME not found" otherwise."""
        ...

    async def list(self) -> Sequence[Network]: ...

    async def open_sandbox(self, container: Container, *, host: bool, hosts: Sequence[tuple[str, str]] = ()) -> Sandbox:
        """A network namespace (none where `host`) with loopback up, and the three files for /etc.

        `hosts` are further lines of /etc/hosts: an address, and the names behind it.
        """
        ...

    def check_addresses(self, name_or_id: str, settings: EndpointSettings) -> None:
        """InvalidArgument for addresses that the network cannot give; nothing where there is no such network yet."""
        ...

    async def attach(self, container: Container, network: Network, request: EndpointRequest) -> Endpoint:
        """Interface, addresses, routes and published ports; Internal, with Docker's words, where a port is taken."""
        ...

    async def detach(self, container_id: str, network_id: str) -> None: ...

    async def close_sandbox(self, container_id: str) -> None:
        """Detach from all networks and remove the namespace. Idempotent."""
        ...

    async def endpoints(self, *, network_id: str = "", container_id: str = "") -> Sequence[Endpoint]: ...


class NetworkNames(Protocol):
    """What running containers are called (implemented beside `Networks`)."""

    async def rename(self, container_id: str, old: str, new: str) -> None:
        """A container has another name from now on."""
        ...

    async def set_host(self, container_id: str, address: str, names: str) -> None:
        """The line of a running container's /etc/hosts that ends with `names` gets this address."""
        ...


# ------------------------------------------------------------------------------- volumes, logs, events


class Volumes(Protocol):
    async def create(
        self,
        name: str,
        driver: str,
        options: dict[str, str],
        labels: dict[str, str],
        *,
        anonymous: bool = False,
    ) -> Volume:
        """Idempotent for the same name and driver; Conflict otherwise."""
        ...

    async def get(self, name: str) -> Volume:
        """NotFound "get NAME: no such volume" otherwise."""
        ...

    async def list(self) -> Sequence[Volume]: ...

    async def remove(self, name: str, *, force: bool = False) -> None: ...

    async def mount(self, name: str, container_id: str) -> str:
        """The host path to bind; mounts what the driver's options ask for, counts its users."""
        ...

    async def unmount(self, name: str, container_id: str) -> None: ...

    async def copy_up(self, name: str, source: Path, subpath: str) -> None:
        """Fill an empty volume with the image's content at its destination (`source`, already resolved)."""
        ...


class VolumeContents(Protocol):
    """What Docker's volumes cannot do (implemented beside `Volumes`)."""

    async def rename(self, name: str, new: str) -> Volume:
        """Conflict while a container has it, or where the new name is taken."""
        ...

    async def fill(self, name: str, labels: dict[str, str], fill: Callable[[Path], None]) -> Volume:
        """A new volume whose directory `fill` fills (blocking); it is there as a whole or not at all."""
        ...

    async def clone(self, name: str, new: str) -> Volume:
        """A new volume with the content and labels of another one, as they are now."""
        ...


class VolumeUse(Protocol):
    """Who has a volume, and how much is in it (implemented beside `Volumes`)."""

    def in_use(self, name: str) -> Sequence[str]:
        """The containers, running or not, that have the volume."""
        ...

    async def size(self, name: str) -> int:
        """Bytes in a volume."""
        ...


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One line or part of a line; `stream` is 1 or 2, `time` nanoseconds since the epoch."""

    stream: int
    time: int
    data: bytes


class LogQuery(msgspec.Struct, frozen=True):
    """`tail` is -1 for all; `since` and `until` are nanoseconds since the epoch, 0 for none."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int = -1
    since: int = 0
    until: int = 0


class Logs(Protocol):
    """The logs that the containers' monitors write to files."""

    def read(self, container: Container, query: LogQuery, ended: "Ended") -> AsyncIterator[list[LogEntry]]:
        """The container's log in order, in batches; with `follow`, goes on until `ended` is set and all is read."""
        ...

    def details(self, container: Container) -> bytes:
        """What `--details` puts before each line."""
        ...

    async def prepare(self, container: Container) -> None:
        """Before a start; raises Internal where the log driver cannot be set up."""
        ...

    def watch(self, container: Container, ended: "Ended") -> None:
        """The container runs: bound its files, and send its output on, until `ended` is set and all is sent."""
        ...

    async def drain(self, container_id: str) -> None:
        """Wait until the output of an ended container was sent on; not for ever."""
        ...


class Ended(Protocol):
    """An asyncio.Event, as far as the log reader needs it."""

    def is_set(self) -> bool: ...

    async def wait(self) -> Any: ...


class Events(Protocol):
    def publish(self, type: str, action: str, actor_id: str, attributes: dict[str, str]) -> Event: ...

    def subscribe(self, since: int = 0, until: int = 0) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Stored events from `since` on (0: none), then new ones until `until` (0: without end)."""
        ...
