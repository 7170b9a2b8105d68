"""Other people's firewalls on this host: what they drop of our containers' traffic.

An `accept` in our table does not help where another table drops the packet. Where that is Docker, whose
FORWARD policy is DROP, its DOCKER-USER chain is the place that it leaves to others: our bridges are admitted
there, with the `iptables` program, so that Docker can still read its table. Only packets to our bridges (our own
table decides about those) and from them to the uplinks are accepted: Docker's containers stay as protected as
they were. In every other case nothing of theirs is changed and `warnings` says what is in the way.
"""

import asyncio
import asyncio.subprocess
import shlex
import shutil
from collections.abc import Sequence

from gantry.linux import nft

_CHAIN = "DOCKER-USER"


class Neighbours:
    """Looks after the forward chains of other tables for one daemon; `mark` is the comment of its rules there."""

    def __init__(self, table: str, mark: str) -> None:
        self._table = table
        self._mark = mark
        self._admitted = False

    async def settle(self, bridges: Sequence[str], uplinks: Sequence[str]) -> None:
        """Let exactly these bridges through DOCKER-USER, where it exists and forwarding is dropped by default."""
        self._admitted = False
        dropping = await self._dropping()
        program = shutil.which("iptables") or shutil.which("iptables", path="/usr/sbin:/sbin")
        if program is None or not any(chain == "FORWARD" for _, chain in dropping):
            return
        listed = await _output(program, "-w", "-S", _CHAIN)
        if listed is None:
            return
        end = ("-m", "comment", "--comment", self._mark, "-j", "ACCEPT")
        wanted: list[tuple[str, ...]] = [("-o", bridge, *end) for bridge in bridges]
        wanted += [("-i", bridge, "-o", uplink, *end) for bridge in bridges for uplink in uplinks]
        rules = [tuple(shlex.split(line)[2:]) for line in listed.splitlines() if line.startswith("-A ")]
        ours = [rule for rule in rules if rule[-6:] == end]
        for rule in ours:
            if rule not in wanted:
                await _output(program, "-w", "-D", _CHAIN, *rule)
        for rule in wanted:
            if rule not in ours:
                await _output(program, "-w", "-I", _CHAIN, *rule)
        self._admitted = True

    async def warnings(self, bridges: Sequence[str]) -> list[str]:
        """One line per foreign chain that drops forwarded packets by default and does not admit our bridges."""
        if not bridges:
            return []
        remedy = " and ".join(f"iptables -I FORWARD {side} {bridges[0]} -j ACCEPT" for side in ("-i", "-o"))
        return [
            f"containers on {bridges[0]} cannot reach other hosts: chain {chain} of table {table}"
            f" drops forwarded packets; admit them with {remedy}"
            for table, chain in await self._dropping()
            if not (self._admitted and chain == "FORWARD")
        ]

    async def _dropping(self) -> list[tuple[str, str]]:
        """(table, chain) of foreign base chains on the forward hook whose policy is drop."""
        objects = await nft.list_json("chains")
        chains = (each["chain"] for each in objects if "chain" in each)
        return [
            (f"{chain['family']} {chain['table']}", chain["name"])
            for chain in chains
            if chain.get("hook") == "forward"
            and chain.get("policy") == "drop"
            and chain["family"] in ("ip", "inet")
            and chain["table"] != self._table
        ]


async def _output(*arguments: str) -> str | None:
    """What a command prints, None where it fails."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    return None if process.returncode else out.decode(errors="replace")
