"""The network room without a daemon around it: containers are namespaces, and so is another host on the LAN."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gantry.linux.netlink import RouteSocket, delete_links
from gantry.model.container import Container, ContainerConfig, HostConfig
from gantry.model.identity import new_id
from gantry.model.instance import Instance
from gantry.model.network import Endpoint, EndpointSettings, PortBinding
from gantry.network.host import HostNetworks
from gantry.network.settings import NetworkSettings
from gantry.ports import EndpointRequest
from gantry.store.state import SQLiteState

LAN_HOST, LAN_PEER = "198.18.77.1", "198.18.77.2"
LAN_HOST6, LAN_PEER6 = "2001:db8:77::1", "2001:db8:77::2"


class Site:
    """One daemon's networks, and containers that are only namespaces."""

    def __init__(self, root: Path) -> None:
        self.instance = Instance.of(root / "data", root / "run")
        self.state = SQLiteState(root / "data" / "state.db")
        self.networks = HostNetworks(self.instance, self.state)
        self.containers: dict[str, Container] = {}

    async def restart(self, alive: list[str], settings: NetworkSettings | None = None) -> None:
        """A new daemon; the old one was killed, and with it its sockets."""
        await self.networks._endpoints.close()
        self.networks._names._process.leave()
        await self.networks._tasks.close()
        self.networks = HostNetworks(self.instance, self.state, settings)
        await self.networks.start([self.containers[name].id for name in alive])

    async def container(
        self,
        name: str,
        network: str = "bridge",
        ports: dict[str, list[PortBinding]] | None = None,
        settings: EndpointSettings | None = None,
    ) -> Endpoint:
        made = self.containers[name] = Container(
            id=new_id(), name=name, created_at=0, image_id="", image_ref="", platform="", path="", args=(),
            config=ContainerConfig(hostname=name), host_config=HostConfig(), runtime="", driver="",
        )  # fmt: skip
        await self.networks.open_sandbox(made, host=False)
        return await self.connect(name, network, ports, settings)

    async def connect(
        self,
        name: str,
        network: str,
        ports: dict[str, list[PortBinding]] | None = None,
        settings: EndpointSettings | None = None,
    ) -> Endpoint:
        request = EndpointRequest(settings or EndpointSettings(), port_bindings=ports or {})
        return await self.networks.attach(self.containers[name], await self.networks.get(network), request)

    def inside(self, name: str) -> list[str]:
        return ["nsenter", f"--net={self.instance.exec_root}/netns/{self.containers[name].id}"]

    def pings(self, name: str, address: str) -> bool:
        return not run([*self.inside(name), "busybox", "ping", "-c1", "-W1", address]).returncode

    def fetches(self, where: list[str], address: str, port: int) -> str:
        """What an HTTP server answers, "" for nothing."""
        asking = [*where, "busybox", "nc", "-w", "2", address, str(port)]
        return run(asking, "GET / HTTP/1.0\r\n\r\n").stdout.rpartition("\r\n\r\n")[2]

    @contextmanager
    def serving(self, name: str, text: str, root: Path) -> Iterator[None]:
        """An HTTP server on port 80 of a container."""
        root.mkdir()
        (root / "index.html").write_text(text)
        server = subprocess.Popen([*self.inside(name), "busybox", "httpd", "-f", "-p", "80", "-h", str(root)])
        try:
            deadline = time.monotonic() + 5
            while self.fetches(self.inside(name), "127.0.0.1", 80) != text:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield
        finally:
            server.kill()
            server.wait()


def run(command: list[str], text: str = "") -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, capture_output=True, input=text.encode(), timeout=30, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def links_of(site: Site) -> set[str]:
    """This daemon's bridges and veths; others may come and go on the machine meanwhile."""
    with RouteSocket() as kernel:
        names = {link.name for link in kernel.links()}
    own = {name for name in names if name.startswith(site.instance.tag)}
    return own | {name for name in names if name in site.networks._book.bridges()}


@contextmanager
def another_host() -> Iterator[list[str]]:
    """A namespace behind a cable to this one; the value is a command prefix that runs there."""
    run(["ip", "netns", "add", "gt-lan"])
    for command in (
        "link add gt-lan0 type veth peer name eth0 netns gt-lan",
        f"addr add {LAN_HOST}/24 dev gt-lan0",
        "link set gt-lan0 addrgenmode none",
        "-n gt-lan link set eth0 addrgenmode none",
        "link set gt-lan0 up",
        f"-n gt-lan addr add {LAN_PEER}/24 dev eth0",
        "-n gt-lan link set eth0 up",
        "-n gt-lan link set lo up",
        f"-n gt-lan route add default via {LAN_HOST}",
        f"addr add {LAN_HOST6}/64 dev gt-lan0 nodad",
        f"-n gt-lan addr add {LAN_PEER6}/64 dev eth0 nodad",
        f"-n gt-lan -6 route add default via {LAN_HOST6}",
    ):
        done = run(["ip", *command.split()])
        assert not done.returncode, done.stderr
    try:
        yield ["ip", "netns", "exec", "gt-lan"]
    finally:
        delete_links(["gt-lan0"])
        run(["ip", "netns", "del", "gt-lan"])
