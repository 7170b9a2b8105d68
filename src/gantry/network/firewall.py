"""Our nft table in the kernel: changed by single transactions, and made whole again where somebody flushed it."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from gantry.linux import nft
from gantry.model.network import PublishedPort
from gantry.network import ruleset
from gantry.network.records import EndpointRecord, NetworkRecord
from gantry.trace import span

log = logging.getLogger(__name__)

Everything = Callable[[], tuple[Iterable[NetworkRecord], Iterable[EndpointRecord]]]


class Firewall:
    """One daemon's table. `everything` gives what it must hold; with `enabled` False nothing is ever done."""

    def __init__(self, table: str, everything: Everything, *, enabled: bool = True) -> None:
        self._table = table
        self._everything = everything
        self._enabled = enabled
        self._lock = asyncio.Lock()

    async def rebuild(self) -> None:
        """Replace our rules by what they should be; established connections go on."""
        if self._enabled:
            async with self._lock:
                await self._rebuild()

    async def add_network(self, record: NetworkRecord) -> None:
        await self._change(ruleset.network(self._table, record) if record.bridge else "")

    async def remove_network(self, record: NetworkRecord) -> None:
        await self._change(ruleset.network(self._table, record, "delete") if record.bridge else "")

    async def publish(self, endpoint: EndpointRecord) -> None:
        """Open all ports of an endpoint in one transaction; nothing is run where there are none."""
        await self._change(ruleset.ports(self._table, [endpoint]))

    async def withdraw(self, endpoint: EndpointRecord) -> None:
        await self._change(ruleset.ports(self._table, [endpoint], "delete"))

    async def exchange(
        self,
        gone: Iterable[tuple[EndpointRecord, Iterable[PublishedPort]]],
        new: Iterable[tuple[EndpointRecord, Iterable[PublishedPort]]],
    ) -> None:
        """Withdraw some ports and open others, in one transaction."""
        script = ruleset.port_elements(self._table, gone, "delete")
        await self._change(script + ruleset.port_elements(self._table, new))

    async def remove(self) -> None:
        """Remove all that is ours, and the table where users have put nothing into it."""
        if self._enabled:
            async with self._lock:
                present, used = await self._present()
                if present:
                    script = ruleset.removal(self._table, present)
                    await nft.apply(script if used else f"delete table inet {self._table}\n")

    async def _change(self, script: str) -> None:
        """Apply a script; the caller's records are changed already, so that a rebuild has the same result."""
        if not script or not self._enabled:
            return
        async with self._lock:
            with span("nft"):
                try:
                    await nft.apply(script)
                except nft.NftError as error:
                    log.warning("table inet %s is not as it was left (%s): making it anew", self._table, error)
                    await self._rebuild()

    async def _rebuild(self) -> None:
        networks, endpoints = self._everything()
        script = ruleset.whole(self._table, networks, endpoints)
        try:
            await nft.apply(script)
        except nft.NftError as error:
            log.warning("table inet %s is of another make (%s): replacing it", self._table, error)
            present, _ = await self._present()
            await nft.apply(ruleset.removal(self._table, present) + script)

    async def _present(self) -> tuple[list[tuple[str, str]], bool]:
        """What our table holds, (kind, name), and whether users have put anything into it."""
        tables = await nft.list_json("tables")
        if not any(each["table"]["name"] == self._table and each["table"]["family"] == "inet" for each in tables):
            return [], False
        objects = await nft.list_json("table", "inet", self._table)
        present: list[tuple[str, str]] = []
        used = False
        for each in objects:
            for kind, content in each.items():
                if kind in ("chain", "set", "map"):
                    present.append((kind, content["name"]))
                elif kind == "rule" and content["chain"] == ruleset.USER_CHAIN:
                    used = True
        return present, used
