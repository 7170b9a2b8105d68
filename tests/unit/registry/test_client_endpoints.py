"""Where registries are: mirrors, insecure ones, certificates, proxies."""

import ssl
from pathlib import Path

import pytest

from gantry.errors import InvalidArgument
from gantry.registry.endpoints import Endpoints, Proxies
from gantry.registry.settings import RegistryRule, RegistrySettings
from lib.certificates import Authority


def urls(settings: RegistrySettings, registry: str, *, push: bool = False) -> list[str]:
    return [endpoint.url for endpoint in Endpoints(settings).of(registry, push=push)]


def test_docker_hub_and_others() -> None:
    plain = RegistrySettings()
    assert urls(plain, "docker.io") == ["https://registry-1.docker.io"]
    assert urls(plain, "index.docker.io") == ["https://registry-1.docker.io"]
    assert urls(plain, "198.51.100.7:5000") == ["https://198.51.100.7:5000"]


def test_insecure_ones_may_be_plain() -> None:
    settings = RegistrySettings(insecure=("198.51.100.0/24", "203.0.113.1:5000"))
    assert urls(settings, "198.51.100.7") == ["https://198.51.100.7", "http://198.51.100.7"]
    assert urls(settings, "203.0.113.1:5000")[1] == "http://203.0.113.1:5000"
    assert urls(settings, "203.0.113.1:5001") == ["https://203.0.113.1:5001"]
    assert urls(settings, "127.0.0.1:5000")[1] == "http://127.0.0.1:5000", "loopback always is"
    assert urls(settings, "localhost:5000")[1] == "http://localhost:5000"


def test_mirrors_by_registry() -> None:
    rules = {
        "quay.io": RegistryRule(mirrors=("https://m/quay/",)),
        "*": RegistryRule(mirrors=("https://all",)),
        "docker.io": RegistryRule(server="https://harbor/hub"),
    }
    settings = RegistrySettings(rules=rules)
    assert urls(settings, "quay.io") == ["https://m/quay", "https://quay.io"]
    assert urls(settings, "quay.io", push=True) == ["https://quay.io"]
    assert urls(settings, "ghcr.io") == ["https://all", "https://ghcr.io"]
    assert urls(settings, "docker.io") == ["https://harbor/hub"]


def test_certificates_of_a_host(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    pair = authority.sign("client", client=True)
    place = tmp_path / "certs.d" / "r:5000"
    place.mkdir(parents=True)
    endpoints = Endpoints(RegistrySettings(certificates=(tmp_path / "absent", tmp_path / "certs.d")))
    before = len(endpoints.tls("r:5000", insecure=False).get_ca_certs())
    (place / "ca.crt").write_bytes(authority.path.read_bytes())
    (place / "client.cert").write_bytes(pair.certificate.read_bytes())
    with pytest.raises(InvalidArgument, match=r"missing key client\.key for client certificate client\.cert"):
        endpoints.tls("r:5000", insecure=False)
    (place / "client.key").write_bytes(pair.key.read_bytes())
    context = endpoints.tls("r:5000", insecure=False)
    assert len(context.get_ca_certs()) == before + 1
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert endpoints.tls("r:5000", insecure=True).verify_mode == ssl.CERT_NONE
    (place / "client.cert").unlink()
    with pytest.raises(InvalidArgument, match=r"missing client certificate client\.cert for key client\.key"):
        endpoints.tls("r:5000", insecure=False)
    (place / "client.key").unlink()
    (place / "ca.crt").write_text("no certificate")
    with pytest.raises(InvalidArgument, match=r"ca\.crt"):
        endpoints.tls("r:5000", insecure=False)


@pytest.mark.parametrize(
    ("url", "spared", "proxied"),
    [
        ("https://quay.io/v2/", "", True),
        ("https://quay.io/v2/", "*", False),
        ("https://quay.io/v2/", "quay.io", False),
        ("https://cdn.quay.io/v2/", "quay.io", False),
        ("https://xquay.io/v2/", "quay.io", True),
        ("https://cdn.quay.io/v2/", ".quay.io", False),
        ("https://quay.io/v2/", "*.quay.io", True),
        ("https://quay.io:8443/v2/", "quay.io:443", True),
        ("https://quay.io:8443/v2/", "quay.io:8443", False),
        ("https://10.1.2.3/v2/", "10.1.0.0/16", False),
        ("https://10.2.2.3/v2/", "10.1.0.0/16", True),
        ("https://127.0.0.1/v2/", "", False),
        ("https://localhost:5000/v2/", "", False),
        ("https://[::1]:5000/v2/", "", False),
    ],
)
def test_who_is_reached_through_a_proxy(url: str, spared: str, proxied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "p:3128")
    monkeypatch.setenv("NO_PROXY", spared)
    assert Proxies(RegistrySettings()).of(url) == ("http://p:3128" if proxied else None)
    given = {"https-proxy": "http://q:1", "no-proxy": spared}
    assert Proxies(RegistrySettings(proxies=given)).of(url) == ("http://q:1" if proxied else None)
