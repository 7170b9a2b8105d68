import json
from pathlib import Path

import pytest

from gantry.cli.flags import Arguments, parse
from gantry.cli.main import GLOBAL_FLAGS
from gantry.client.config import ConfigError, load, save
from gantry.client.contexts import ContextStore, context_id
from gantry.client.endpoints import Endpoint, current_context, resolve
from gantry.client.errors import EndpointError


def flags(*words: str) -> Arguments:
    return parse(GLOBAL_FLAGS, words)


@pytest.mark.parametrize(
    ("url", "scheme", "hostname", "port"),
    [
        ("unix:///run/x.sock", "unix", "", 0),
        ("tcp://1.2.3.4:2375", "tcp", "1.2.3.4", 2375),
        ("tcp://host", "tcp", "host", 2375),
        ("tcp://[::1]:99/path", "tcp", "::1", 99),
        ("host:1", "tcp", "host", 1),
    ],
)
def test_addresses(url: str, scheme: str, hostname: str, port: int) -> None:
    endpoint = Endpoint(url)
    assert (endpoint.scheme, endpoint.hostname, endpoint.port) == (scheme, hostname, port)


@pytest.mark.parametrize("url", ["tcp://host:x", "tcp://host:70000", "foo://x", "unix://", "fd://", ""])
def test_bad_addresses(url: str) -> None:
    with pytest.raises(EndpointError):
        Endpoint(url)


def test_ssh_command() -> None:
    assert Endpoint("ssh://me@host:2222").ssh_command() == [
        "ssh", "-l", "me", "-p", "2222", "-o", "ConnectTimeout=30", "-T", "--", "host",
        "gantry", "system", "dial-stdio",
    ]  # fmt: skip
    remote = Endpoint("ssh://host/run/x.sock").ssh_command()
    assert remote[-5:] == ["gantry", "--host", "unix:///run/x.sock", "system", "dial-stdio"]
    with pytest.raises(EndpointError):
        Endpoint("ssh://-oProxyCommand=evil").ssh_command()


class TestResolve:
    def test_order(self, tmp_path: Path) -> None:
        directory = str(tmp_path)
        ContextStore(directory).save({"Name": "far", "Endpoints": {"docker": {"Host": "tcp://far:1"}}})
        environ = {"DOCKER_HOST": "unix:///env", "DOCKER_CONTEXT": "far"}
        config = {"currentContext": "far"}
        assert resolve(flags("-H", "unix:///flag"), environ, directory, config).url == "unix:///flag"
        assert resolve(flags(), environ, directory, config).url == "unix:///env"
        assert resolve(flags("-c", "far"), environ, directory, config).url == "tcp://far:1"
        assert resolve(flags(), {"DOCKER_CONTEXT": "far"}, directory, {}).url == "tcp://far:1"
        assert resolve(flags(), {}, directory, config).url == "tcp://far:1"
        default = resolve(flags(), {}, directory, {})
        assert (default.url, default.default) == ("unix:///var/run/docker.sock", True)
        assert resolve(flags(), {"DOCKER_CONTEXT": "default"}, directory, config).default

    def test_conflicts(self) -> None:
        with pytest.raises(EndpointError, match="cannot specify both --host and --context"):
            resolve(flags("-H", "a", "-c", "b"), {}, "/nothing", {})
        with pytest.raises(EndpointError, match="Specify only one -H"):
            resolve(flags("-H", "a", "-H", "b"), {}, "/nothing", {})

    def test_unknown_context(self, tmp_path: Path) -> None:
        with pytest.raises(EndpointError, match=r'context "no": context not found: open .*/meta.json: no such file'):
            resolve(flags("-c", "no"), {}, str(tmp_path), {})

    def test_names(self) -> None:
        assert current_context(flags(), {}, {}) == "default"
        assert current_context(flags(), {"DOCKER_HOST": "x"}, {"currentContext": "y"}) == "default"

    def test_tls_by_environment(self, tmp_path: Path) -> None:
        for name in ("ca.pem", "cert.pem", "key.pem"):
            (tmp_path / name).write_text("x")
        environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path), "DOCKER_HOST": "tcp://h"}
        endpoint = resolve(flags(), environ, "/nothing", {})
        assert endpoint.tls is not None
        assert (endpoint.tls.ca, endpoint.tls.verify, endpoint.port) == (f"{tmp_path}/ca.pem", True, 2376)

    def test_tls_without_verification(self) -> None:
        endpoint = resolve(flags("--tls", "-H", "tcp://h"), {}, "/nothing", {})
        assert endpoint.tls is not None
        assert (endpoint.tls.ca, endpoint.tls.verify) == ("", False)

    def test_missing_certificate(self) -> None:
        with pytest.raises(EndpointError, match="could not read tlscacert /none"):
            resolve(flags("--tls", "--tlscacert", "/none", "-H", "tcp://h"), {}, "/nothing", {})


class TestContexts:
    def test_layout_is_dockers(self, tmp_path: Path) -> None:
        store = ContextStore(str(tmp_path))
        store.save(
            {"Name": "x", "Metadata": {}, "Endpoints": {"docker": {"Host": "tcp://h:1", "SkipTLSVerify": False}}},
            {"docker": {"ca.pem": b"CA", "key.pem": b"KEY"}},
        )
        identity = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        assert context_id("x") == identity
        assert json.loads((tmp_path / "contexts/meta" / identity / "meta.json").read_text())["Name"] == "x"
        key = tmp_path / "contexts/tls" / identity / "docker/key.pem"
        assert (key.read_bytes(), key.stat().st_mode & 0o777) == (b"KEY", 0o600)
        endpoint = store.endpoint("x")
        assert endpoint.tls is not None
        assert (endpoint.tls.key, endpoint.tls.cert, endpoint.tls.verify) == (str(key), "", True)
        assert (store.names(), store.exists("x")) == (["x"], True)
        store.remove("x")
        assert (store.names(), store.exists("x"), key.exists()) == ([], False, False)

    def test_broken_metadata(self, tmp_path: Path) -> None:
        meta = tmp_path / "contexts/meta" / context_id("x") / "meta.json"
        meta.parent.mkdir(parents=True)
        meta.write_text("{")
        with pytest.raises(EndpointError, match="context metadata"):
            ContextStore(str(tmp_path)).endpoint("x")


class TestConfig:
    def test_round_trip_is_private(self, tmp_path: Path) -> None:
        save(str(tmp_path / "new"), {"auths": {}, "psFormat": "x"})
        assert load(str(tmp_path / "new")) == {"auths": {}, "psFormat": "x"}
        assert (tmp_path / "new/config.json").stat().st_mode & 0o777 == 0o600

    def test_missing_is_empty(self, tmp_path: Path) -> None:
        assert load(str(tmp_path)) == {}

    @pytest.mark.parametrize("text", ["{", "[]", '"x"'])
    def test_broken(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConfigError, match="Error loading config file"):
            load(str(tmp_path))
