"""The registry server as a program: its signals, its lock, its addresses, and what it says when it cannot start."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from lib.certificates import Authority
from lib.daemon import BIN
from lib.registry_process import RegistryProcess


def serve(*words: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Start a server that is expected to end by itself."""
    return subprocess.run(
        [BIN / "gantry", "registry", "serve", *words],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_it_ends_at_once_when_only_idle_connections_are_left(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path) as registry:
        connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=10)
        connection.request("GET", "/v2/")
        assert connection.getresponse().read() == b"{}"
        began = time.monotonic()
        assert registry.stop() == 0
        assert time.monotonic() - began < 10
        connection.close()


def test_a_request_that_is_under_way_may_end(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path) as registry:
        connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=20)
        connection.request("POST", "/v2/a/blobs/uploads/")
        answer = connection.getresponse()
        answer.read()
        path = "/" + answer.headers["Location"].split("/", 3)[3]
        connection.putrequest("PATCH", path)
        connection.putheader("Content-Length", "6")
        connection.endheaders()
        connection.send(b"abc")
        deadline = time.monotonic() + 10
        while not any(file.stat().st_size == 3 for file in (tmp_path / "data/staging/uploads").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert registry._process is not None
        registry._process.send_signal(signal.SIGTERM)
        while "registry stops" not in registry.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        connection.send(b"def")
        assert connection.getresponse().status == 202
        connection.close()
        assert registry.stop() == 0


def test_one_server_at_a_time(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path) as registry:
        other = serve("--address", "127.0.0.1:0", "--root", tmp_path / "data")
        assert other.returncode == 1
        assert other.stderr == f"another registry serves the storage {tmp_path / 'data'}\n"
        taken = serve("--address", registry.host, "--root", tmp_path / "else")
        assert taken.returncode == 1
        assert taken.stderr == f"listen tcp {registry.host}: bind: address already in use\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http: {addr: nonsense}", "http.addr: nonsense: host:port is expected"),
        ("http: {tls: {certificate: /none.crt, key: /none.key}}", "http.tls: /none.crt, /none.key: no such file"),
        ("auth: {htpasswd: {path: /none}}", "auth.htpasswd.path: /none: no such file or directory"),
        ("auth: {token: {realm: a, service: b, issuer: c, jwks: /none}}", "auth.token.jwks: /none"),
        ("proxy: {remoteurl: 'ftp://x'}", "proxy.remoteurl: ftp://x: http:// or https:// is expected"),
        ("storage: {filesystem: {rootdirectory: /proc/none}}", "storage.filesystem: /proc/none"),
    ],
)
def test_what_stops_the_start_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    configuration = tmp_path / "config.yaml"
    storage = "" if "storage" in text else f"storage: {{filesystem: {{rootdirectory: '{tmp_path / 'data'}'}}}}\n"
    configuration.write_text(f"version: 0.1\n{storage}{text}\n")
    done = serve("--config", configuration)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_debug_address_has_health_and_metrics(tmp_path: Path) -> None:
    port = free_port()
    more = (
        f"http: {{debug: {{addr: '127.0.0.1:{port}', prometheus: {{enabled: true}}}}}}\n"
        "health: {storagedriver: {enabled: true}}"
    )
    with RegistryProcess(tmp_path, more=more) as registry:
        assert get(registry.port, "/v2/") == (200, b"{}")
        assert get(port, "/debug/health") == (200, b"{}")
        status, text = get(port, "/metrics")
        assert status == 200
        assert b'http_requests_total{handler="base",method="GET",code="200"} 1' in text
        assert get(port, "/else")[0] == 404
        assert get(registry.port, "/metrics")[0] == 404


def test_clients_must_show_a_certificate_where_that_is_asked(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    server, client = authority.sign("server"), authority.sign("client", client=True)
    more = (
        f"http: {{tls: {{certificate: '{server.certificate}', key: '{server.key}', clientcas: ['{authority.path}'], "
        "minimumtls: tls1.3}}"
    )
    with RegistryProcess(tmp_path, more=more) as registry:
        context = ssl.create_default_context(cafile=str(authority.path))

        def status() -> int:
            connection = http.client.HTTPSConnection("127.0.0.1", registry.port, timeout=10, context=context)
            try:
                connection.request("GET", "/v2/")
                return connection.getresponse().status
            finally:
                connection.close()

        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            status()
        context.load_cert_chain(client.certificate, client.key)
        assert status() == 200
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            status()
