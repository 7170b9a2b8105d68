"""The drivers by name, and what each can do."""

from typing import Protocol

from gantry.network.bridge import BridgeDriver
from gantry.network.childlinks import ChildLinkDriver
from gantry.network.records import EndpointRecord, NetworkRecord
from gantry.network.requests import BRIDGE, IPVLAN, MACVLAN
from gantry.network.sandbox import Sandboxes


class NetworkDriver(Protocol):
    """Interfaces of one kind of network. All methods block for milliseconds; they raise Conflict and Internal."""

    def create(self, record: NetworkRecord, owner: str) -> None:
        """Make what the network needs on the host, or put right what differs; `owner` marks it as ours."""
        ...

    def delete(self, record: NetworkRecord) -> None:
        """Remove what `create` made. Idempotent."""
        ...

    def attach(self, sandboxes: Sandboxes, record: NetworkRecord, endpoint: EndpointRecord) -> None:
        """An interface in the sandbox with everything that the endpoint says; nothing is left where it raises."""
        ...

    def detach(self, sandboxes: Sandboxes, *endpoints: EndpointRecord) -> None:
        """Remove the interfaces of endpoints, of living containers and ended ones. Idempotent."""
        ...

    def limit(self, sandboxes: Sandboxes, endpoint: EndpointRecord) -> None:
        """Bring the bandwidth of a living endpoint to what its record says."""
        ...


_DRIVERS: dict[str, NetworkDriver] = {
    BRIDGE: BridgeDriver(),
    MACVLAN: ChildLinkDriver(),
    IPVLAN: ChildLinkDriver(),
}


def driver_of(record: NetworkRecord) -> NetworkDriver:
    """The driver of a network that containers have an interface on (`linked`)."""
    return _DRIVERS[record.driver]
