"""Commands that make something of containers, or change them: commit, export, update, prune."""

from __future__ import annotations

from gantry.cli import opts_resources, output, prune
from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, integer, string, strings, unsigned, value
from gantry.cli.opts import size, swap_size
from gantry.client.client import segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gantry.cli.flags import Arguments

# -------------------------------------------------------------------------------- commit, export


def _commit(ctx: Context, args: Arguments) -> int:
    from gantry.errors import GantryError
    from gantry.model.reference import Reference

    name, *target = args.positional
    query: dict[str, Any] = {
        "container": name,
        "comment": args["message"] or None,
        "author": args["author"] or None,
        "changes": args["change"],
        "pause": None if args["pause"] and not args["no-pause"] else False,
    }
    if target:
        try:
            reference = Reference.parse(target[0])
        except GantryError as error:
            raise CommandError(error.message) from error
        if reference.digest:
            raise CommandError("refusing to create a tag with a digest reference")
        query |= {"repo": reference.familiar_name, "tag": reference.tag}
    ctx.out.write(str(ctx.client.post("/commit", query)["Id"]) + "\n")
    return 0


def _export(ctx: Context, args: Arguments) -> int:
    target = args.string("output")
    output.check(target, "failed to export container")
    output.write(ctx.client.download(f"/containers/{segment(args.positional[0])}/export"), target)
    return 0


# ---------------------------------------------------------------------------------------- update

_LIMITS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}


def _update(ctx: Context, args: Arguments) -> int:
    if not args.changed:
        raise CommandError("you must provide one or more flags when using this command")
    body: dict[str, Any] = {field: args[name] for name, field in _LIMITS.items() if name in args.changed}
    if "restart" in args.changed:
        from gantry.cli.create_request import restart_policy

        body["RestartPolicy"] = restart_policy(args.string("restart"))
    warnings: list[str] = []

    def update(name: str) -> None:
        answer = ctx.client.post(f"/containers/{segment(name)}/update", None, body)
        warnings.extend((answer or {}).get("Warnings") or ())

    status = ctx.each(args.positional, update)
    if warnings:
        ctx.out.write("\n".join(warnings) + "\n")
    return status


# ----------------------------------------------------------------------------------------- prune


def _prune(ctx: Context, args: Arguments) -> int:
    def remove() -> tuple[list[str], int | None]:
        answer = ctx.client.post("/containers/prune", {"filters": prune.prune_filters(ctx, args) or None})
        deleted = answer.get("ContainersDeleted") or ()
        return prune.removed("Deleted Containers:", deleted), int(answer.get("SpaceReclaimed") or 0)

    return prune.run(ctx, args, f"WARNING! This will remove all stopped containers.\n{prune.QUESTION}", remove)


COMMIT = Command(
    _commit,
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    (
        string("author", "a", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        strings("change", "c", "Apply Dockerfile instruction to the created image"),
        string("message", "m", "Commit message"),
        boolean("no-pause", "", "Do not pause the container during commit"),
        boolean("pause", "p", "Pause container during commit", default=True),
    ),
    least=1,
    most=2,
    interspersed=False,
)
EXPORT = Command(
    _export,
    "[OPTIONS] CONTAINER",
    (string("output", "o", "Write to a file, instead of STDOUT"),),
    least=1,
    most=1,
)
UPDATE = Command(
    _update,
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (
        unsigned("blkio-weight", "", "Block IO weight, 10 to 1000, 0 for none", bits=16, metavar="uint16"),
        integer("cpu-period", "", "Period of the CPU's CFS scheduler, in microseconds"),
        integer("cpu-quota", "", "CPU time per period of the CFS scheduler, in microseconds"),
        integer("cpu-rt-period", "", "Period of the real-time scheduler, in microseconds"),
        integer("cpu-rt-runtime", "", "CPU time per period of the real-time scheduler, in microseconds"),
        integer("cpu-shares", "c", "CPU shares (relative weight)"),
        value("cpus", "", "Number of CPUs", opts_resources.cpus, metavar="decimal", default=0),
        string("cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)"),
        string("cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)"),
        size("kernel-memory", "", "Kernel memory limit", hidden=True),
        size("memory", "m", "Memory limit"),
        size("memory-reservation", "", "Memory soft limit"),
        swap_size("memory-swap", "", "Limit of memory and swap together: -1 for unlimited swap"),
        integer("pids-limit", "", "Limit the number of processes (-1 for unlimited)"),
        string("restart", "", "Restart policy to apply when a container exits"),
    ),
    least=1,
)
PRUNE = Command(_prune, "[OPTIONS]", prune.flags(), most=0)
