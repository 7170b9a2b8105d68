"""The macvlan and ipvlan drivers: containers on the host's own network, below one of its interfaces. Blocking."""

import errno

from gantry.errors import Internal
from gantry.linux import netlink
from gantry.network import links, requests
from gantry.network.bridge import remove_links
from gantry.network.records import EndpointRecord, NetworkRecord
from gantry.network.sandbox import Sandboxes
from gantry.trace import span


class ChildLinkDriver:
    """A macvlan or ipvlan interface per container, made in its sandbox; the host has no end of it."""

    def create(self, record: NetworkRecord, owner: str) -> None:
        """Make the parent interface where it is ours: a VLAN of the host's, or one that leads nowhere."""
        if not record.managed:
            return
        try:
            with netlink.RouteSocket() as kernel:
                if kernel.link(record.parent) is not None:
                    return
                vlan = requests.vlan_of(record.parent)
                if vlan is None:
                    self._make(kernel, record, netlink.add_dummy(record.parent), owner)
                    return
                base = kernel.link(vlan[0])
                if base is None:
                    raise Internal(f"-o parent interface was not found on the host: {vlan[0]}")
                self._make(kernel, record, netlink.add_vlan(record.parent, base.number, vlan[1]), owner)
        except OSError as error:
            raise Internal(f"network {record.name}: {error.strerror or error}") from error

    def _make(self, kernel: netlink.RouteSocket, record: NetworkRecord, message: netlink.Message, owner: str) -> None:
        try:
            kernel.request(message, netlink.set_link(record.parent, alias=owner))
        except netlink.NetlinkError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            what = f"{record.parent} vlan link" if requests.vlan_of(record.parent) else "dummy link"
            raise Internal(f"failed to create {what}: operation not supported") from error

    def delete(self, record: NetworkRecord) -> None:
        if record.managed:
            remove_links(record.parent)

    def attach(self, sandboxes: Sandboxes, record: NetworkRecord, endpoint: EndpointRecord) -> None:
        """The interface with its addresses and default routes. Raises Internal; nothing is left then."""
        made = endpoint.endpoint
        try:
            with span(record.driver), netlink.RouteSocket() as kernel:
                parent = kernel.link(record.parent)
                if parent is None:
                    raise Internal(f"network {record.name}: its parent interface {record.parent} is gone")
                with sandboxes.path(made.container_id).open("rb") as namespace:
                    kernel.request(
                        netlink.add_child(
                            record.driver,
                            made.interface,
                            parent.number,
                            mode=record.link_mode,
                            flag=record.link_flag,
                            mtu=record.mtu,
                            mac=made.mac_address if record.driver == requests.MACVLAN else "",
                            namespace=namespace.fileno(),
                        )
                    )
            try:
                sandboxes.run(made.container_id, lambda: links.configure(endpoint))
            except BaseException:
                self.detach(sandboxes, endpoint)
                raise
        except netlink.NetlinkError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise Internal(f"network {record.name}: this kernel has no {record.driver}") from error
            raise Internal(f"failed to create the {record.driver} port: {error.strerror}") from error
        except OSError as error:
            raise Internal(f"network {record.name}: {error.strerror or error}") from error

    def detach(self, sandboxes: Sandboxes, *endpoints: EndpointRecord) -> None:
        """Interfaces go with their sandbox; from one that lives on they are taken away."""
        for each in endpoints:
            name = each.endpoint.interface
            if name and sandboxes.path(each.endpoint.container_id).exists():
                try:
                    sandboxes.run(each.endpoint.container_id, lambda name=name: links.remove([name]))  # type: ignore[misc]
                except OSError as error:
                    raise Internal(f"cannot remove {name} of {each.container_name}: {error.strerror}") from error

    def limit(self, sandboxes: Sandboxes, endpoint: EndpointRecord) -> None:
        """Only what the container sends can be limited here; raises Internal."""

        def inside() -> None:
            with netlink.RouteSocket() as kernel:
                links.limit(kernel, endpoint.endpoint.interface, endpoint.bandwidth.out, replace=True)

        try:
            sandboxes.run(endpoint.endpoint.container_id, inside)
        except OSError as error:
            raise Internal(f"bandwidth of {endpoint.container_name}: {error.strerror or error}") from error
