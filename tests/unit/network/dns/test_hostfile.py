"""The host's servers, followed while containers run."""

import os
from pathlib import Path

from gantry.network.dns.forward import Upstream
from gantry.network.dns.hostfile import HostServers


def servers(*addresses: str) -> tuple[Upstream, ...]:
    return tuple(Upstream(each, host=True) for each in addresses)


def test_the_servers_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nnameserver 192.0.2.1 # y\nnameserver fe80::1%eth0\nnameserver name\nsearch a\nnameserver\n")
    assert HostServers(str(path)).current() == servers("192.0.2.1", "fe80::1%eth0")


def test_a_change_counts_and_a_missing_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    made = HostServers(str(path))
    assert made.current() == ()
    path.write_text("nameserver 192.0.2.1\n")
    assert made.current() == servers("192.0.2.1")
    other = tmp_path / "new"
    other.write_text("nameserver 192.0.2.2\n")
    other.rename(path)
    assert made.current() == servers("192.0.2.2")
    path.write_text("nameserver 192.0.2.33\n")
    assert made.current() == servers("192.0.2.33")
    path.unlink()
    assert made.current() == servers("192.0.2.33")
    path.write_bytes(b"\xff\0nameserver\n" * 100)
    os.utime(path, ns=(1, 1))
    assert made.current() == ()
