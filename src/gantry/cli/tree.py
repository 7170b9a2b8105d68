"""The tree of commands, as data: nothing is imported before the one command that runs.

LEAVES has a row per command: (module below gantry.cli and its Command's name, summary, paths...). The first path is
the command's home; all paths run the same command. A path that begins with "~" is an alias that lists do not show,
a row whose summary begins with "~" is hidden.
"""

from __future__ import annotations

GROUPS = {
    "builder": "Manage builds",
    "container": "Manage containers",
    "context": "Manage contexts",
    "image": "Manage images",
    "manifest": "Look at manifests, and put manifest lists together",
    "network": "Manage networks",
    "registry": "Run a registry of your own",
    "system": "Manage the daemon",
    "volume": "Manage volumes",
}

COMMON = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info")
"""What the first page lists first."""

LEAVES: tuple[tuple[str, ...], ...] = (
    # containers
    ("run:COMMAND", "Create and run a new container from an image", "container run", "run"),
    ("exec:COMMAND", "Execute a command in a running container", "container exec", "exec"),
    ("ps:COMMAND", "List containers", "container ls", "~container list", "~container ps", "ps"),
    ("attach:COMMAND", "Connect the terminal to a running container's standard streams", "container attach", "attach"),
    ("container_change:COMMIT", "Create a new image from a container's changes", "container commit", "commit"),
    ("cp:COMMAND", "Copy files between a container and the local file system", "container cp", "cp"),
    ("create:COMMAND", "Create a new container", "container create", "create"),
    ("container_info:DIFF", "Show what changed in a container's file system", "container diff", "diff"),
    ("container_change:EXPORT", "Write a container's file system as a tar archive", "container export", "export"),
    ("container_info:INSPECT", "Show details of one or more containers", "container inspect"),
    ("container_control:KILL", "Kill one or more running containers", "container kill", "kill"),
    ("logs:COMMAND", "Fetch the logs of a container", "container logs", "logs"),
    ("container_control:PAUSE", "Pause all processes of one or more containers", "container pause", "pause"),
    ("container_info:PORT", "List a container's published ports", "container port", "port"),
    ("container_change:PRUNE", "Remove all stopped containers", "container prune"),
    ("container_control:RENAME", "Rename a container", "container rename", "rename"),
    ("container_control:RESTART", "Restart one or more containers", "container restart", "restart"),
    ("container_control:RM", "Remove one or more containers", "container rm", "~container remove", "rm", "~remove"),
    ("start:COMMAND", "Start one or more stopped containers", "container start", "start"),
    ("stats:COMMAND", "Show a live view of containers' resource usage", "container stats", "stats"),
    ("container_control:STOP", "Stop one or more running containers", "container stop", "stop"),
    ("container_info:TOP", "Show a container's running processes", "container top", "top"),
    ("container_control:UNPAUSE", "Resume all processes of paused containers", "container unpause", "unpause"),
    ("container_change:UPDATE", "Change limits of one or more containers", "container update", "update"),
    ("container_control:WAIT", "Block until containers stop, then print their exit codes", "container wait", "wait"),
    ("events:COMMAND", "Follow what happens in the daemon", "system events", "events"),
    # images
    ("image:LS", "List images", "image ls", "~image list", "images"),
    ("image:HISTORY", "Show the history of an image", "image history", "history"),
    ("image:INSPECT", "Show details of one or more images", "image inspect"),
    ("image:PRUNE", "Remove unused images", "image prune"),
    ("image:RM", "Remove one or more images", "image rm", "~image remove", "~image rmi", "rmi"),
    ("image:TAG", "Give an image a further name", "image tag", "tag"),
    ("image_bootstrap:COMMAND", "Make a base image from this machine's Debian packages", "image bootstrap"),
    ("image_transfer:IMPORT", "Make an image from a file system tarball", "image import", "import"),
    ("image_transfer:LOAD", "Load images from a tar archive or standard input", "image load", "load"),
    ("image_transfer:PULL", "Download an image from a registry", "image pull", "pull"),
    ("image_transfer:PUSH", "Upload an image to a registry", "image push", "push"),
    ("manifest:ANNOTATE", "Say more about a manifest of a local list", "manifest annotate"),
    ("manifest:CREATE", "Begin a local manifest list", "manifest create"),
    ("manifest:INSPECT", "Show a manifest or a list of them", "manifest inspect"),
    ("manifest:PUSH", "Publish a local manifest list", "manifest push"),
    ("manifest:RM", "Delete local manifest lists", "manifest rm"),
    ("image_transfer:SAVE", "Write images to a tar archive", "image save", "save"),
    # building
    ("build:COMMAND", "Build an image from a Dockerfile", "image build", "build", "builder build"),
    ("builder:PRUNE", "Remove the build cache", "builder prune"),
    # registries
    ("login:LOGIN", "Log in to a registry", "login"),
    ("login:LOGOUT", "Log out from a registry", "logout"),
    ("registry:SERVE", "Serve a registry", "registry serve"),
    ("registry_image:COMMAND", "Build an image of the registry server", "registry image"),
    ("registry:CHECK", "Check a registry's configuration", "registry check"),
    ("registry_accounts:HTPASSWD", "Make an entry of an htpasswd file", "registry htpasswd"),
    ("registry_accounts:CERT", "Make a self-signed certificate for an address", "registry cert"),
    ("search:COMMAND", "Search Docker Hub for images", "search"),
    # networks and volumes
    ("network:CONNECT", "Connect a container to a network", "network connect"),
    ("network:CREATE", "Create a network", "network create"),
    ("network:DISCONNECT", "Disconnect a container from a network", "network disconnect"),
    ("network:INSPECT", "Show details of one or more networks", "network inspect"),
    ("network:LS", "List networks", "network ls", "~network list"),
    ("network:PRUNE", "Remove all unused networks", "network prune"),
    ("network:RM", "Remove one or more networks", "network rm", "~network remove"),
    ("volume_contents:CLONE", "Make a new volume with the content of another one", "volume clone"),
    ("volume:CREATE", "Create a volume", "volume create"),
    ("volume_contents:EXPORT", "Write a volume's content to a tar archive", "volume export"),
    ("volume_contents:IMPORT", "Make a new volume from a tar archive", "volume import"),
    ("volume:INSPECT", "Show details of one or more volumes", "volume inspect"),
    ("volume:LS", "List volumes", "volume ls", "~volume list"),
    ("volume:PRUNE", "Remove unused local volumes", "volume prune"),
    ("volume_contents:RENAME", "Rename a volume that no container has", "volume rename"),
    ("volume:RM", "Remove one or more volumes", "volume rm", "~volume remove"),
    ("volume:UPDATE", "Update a volume (cluster volumes only)", "volume update"),
    # contexts
    ("context:CREATE", "Create a context", "context create"),
    ("context:EXPORT", "Write a context to a tar archive", "context export"),
    ("context:IMPORT", "Read a context from an archive", "context import"),
    ("context:INSPECT", "Show details of one or more contexts", "context inspect"),
    ("context:LS", "List contexts", "context ls", "~context list"),
    ("context:RM", "Remove one or more contexts", "context rm", "~context remove"),
    ("context:SHOW", "Print the name of the current context", "context show"),
    ("context:UPDATE", "Change a context", "context update"),
    ("context:USE", "Set the current context", "context use"),
    # the daemon
    ("system_df:COMMAND", "Show disk usage", "system df"),
    ("system:DIAL_STDIO", "~Join standard input and output to the daemon's socket", "system dial-stdio"),
    ("info:COMMAND", "Show facts about the daemon and its host", "system info", "info"),
    ("system:PRUNE", "Remove unused data", "system prune"),
    ("version:COMMAND", "Show versions of client and daemon", "version"),
    ("system:CHECK", "Check that this machine has what Gantry needs", "system check"),
    ("system:TRACE", "Show where recent container starts spent their time", "system trace"),
    ("inspect:COMMAND", "Show low-level details of containers, images, networks and volumes", "inspect"),
)


def find(path: str) -> tuple[str, ...] | None:
    """The row of a command by one of its paths."""
    hidden = "~" + path
    for row in LEAVES:
        if path in row[2:] or hidden in row[2:]:
            return row
    return None


def home(row: tuple[str, ...], path: str) -> str:
    """The path that help shows for a command called by `path`: an alias gives way to the listed name beside it."""
    if path in row[2:]:
        return path
    place = row.index("~" + path)
    return next(name for name in reversed(row[2:place]) if name[0] != "~")


def listed(group: str) -> list[tuple[str, str]]:
    """(name, summary) of the commands that help lists in `group` ("" for the first page), by name."""
    prefix = group + " " if group else ""
    found: list[tuple[str, str]] = []
    for row in LEAVES:
        if row[1][0] == "~":
            continue
        names = [path[len(prefix) :] for path in row[2:] if path[0] != "~" and path.startswith(prefix)]
        found += [(name, row[1]) for name in names if " " not in name]
    return sorted(found)
