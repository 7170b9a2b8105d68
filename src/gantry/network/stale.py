"""Endpoint records that a killed daemon left without their interfaces, though their containers live."""

from collections import Counter
from collections.abc import Sequence

from gantry.linux import netlink
from gantry.network.hostfacts import HostFacts
from gantry.network.records import EndpointRecord
from gantry.network.sandbox import Sandboxes


def stale(sandboxes: Sandboxes, endpoints: Sequence[EndpointRecord]) -> list[EndpointRecord]:
    """Those that are not in their containers' namespaces: half made, or of an earlier run of the same container.

    The kernel may not have removed the interfaces of an earlier run yet, so where a container has two endpoints on one
    network its namespace is asked. Blocks for a few milliseconds.
    """
    links = HostFacts().links if endpoints else {}
    places = Counter((each.endpoint.container_id, each.endpoint.network_id) for each in endpoints)

    def inside() -> set[str]:
        with netlink.RouteSocket() as kernel:
            return {link.mac for link in kernel.links()}

    def is_stale(each: EndpointRecord) -> bool:
        made = each.endpoint
        if each.link and each.link not in links:
            return True
        if not made.mac_address or places[made.container_id, made.network_id] == 1:
            return False
        return made.mac_address not in sandboxes.run(made.container_id, inside)

    return [each for each in endpoints if is_stale(each)]
