"""All cases, group by group, in the order in which they run."""

from collections.abc import Iterable

from bench.cases import api, build, commands, daemon, life, memory, names, network, registry, start, streams, transfer
from bench.model import Case, Scale

CASES: tuple[Case, ...] = (
    *start.CASES, *commands.CASES, *life.CASES, *api.CASES, *transfer.CASES, *build.CASES, *streams.CASES,
    *network.CASES, *names.CASES, *memory.CASES, *daemon.CASES, *registry.CASES,
)  # fmt: skip


def choose(names: Iterable[str], scale: Scale) -> list[Case]:
    """The cases of these names and groups, or those of the scale; raises KeyError for a name that is neither."""
    wanted: list[Case] = []
    for name in names:
        found = [case for case in CASES if name in (case.name, case.group, "all")]
        if not found:
            raise KeyError(name)
        wanted += [case for case in found if case not in wanted]
    return wanted or [case for case in CASES if scale in case.scales]
