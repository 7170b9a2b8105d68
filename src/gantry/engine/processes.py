"""`top`: the host's `ps`, cut down to one container's processes. Nothing of the container is run."""

import asyncio
import re

from gantry.errors import InvalidArgument

_RENAMED = re.compile(r"(\S*)=\s*(PID\S*)")  # another column that calls itself PID


async def processes(pids: set[int], arguments: str) -> tuple[list[str], list[list[str]]]:
    """Titles and rows; raises InvalidArgument with Docker's words."""
    if found := _RENAMED.search(arguments):
        raise InvalidArgument(f'specifying "{found[1]}={found[2]}" is not allowed')
    process = await asyncio.create_subprocess_exec(
        "ps", *(arguments.split() or ["-ef"]),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    if process.returncode:
        first = err.decode(errors="replace").strip().partition("\n")[0]
        raise InvalidArgument(f"ps: {first.removeprefix('ps: ')}" if first else "ps: it failed")
    return select(out.decode(errors="replace"), pids)


def select(text: str, pids: set[int]) -> tuple[list[str], list[list[str]]]:
    """The rows of `ps` that belong to `pids`; what is beyond the last title is part of the last column."""
    lines = text.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidArgument("Couldn't find PID field in ps output")
    column, last = titles.index("PID"), len(titles) - 1
    rows = []
    for line in lines[1:]:
        fields = line.split()
        if len(fields) <= column or not fields[column].isdecimal():
            continue
        if int(fields[column]) in pids:
            rows.append([*fields[:last], " ".join(fields[last:])])
    return titles, rows
