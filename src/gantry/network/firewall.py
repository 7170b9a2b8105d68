"""Our nft table in the kernel: changed by single transactions, and made whole again where somebody flushed it."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from gantry.linux import nft
from gantry.model.network import Endpoint
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
        """Replace the table by what it should be; established connections go on."""
        if self._enabled:
            async with self._lock:
                await self._rebuild()

    async def add_network(self, record: NetworkRecord) -> None:
        await self._change(ruleset.network(self._table, record))

    async def remove_network(self, record: NetworkRecord) -> None:
        await self._change(ruleset.network(self._table, record, "delete"))

    async def publish(self, endpoint: Endpoint) -> None:
        """Open all ports of a container in one transaction; nothing is run where there are none."""
        await self._change(ruleset.ports(self._table, [(endpoint.ip_address, endpoint.ports)]))

    async def withdraw(self, endpoint: Endpoint) -> None:
        await self._change(ruleset.ports(self._table, [(endpoint.ip_address, endpoint.ports)], "delete"))

    async def remove(self) -> None:
        """Remove the table and all that is in it."""
        if self._enabled:
            async with self._lock:
                await nft.apply(ruleset.remove(self._table))

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
        await nft.apply(ruleset.whole(self._table, networks, endpoints))
