"""The configuration file: Distribution's keys, environment, and what is refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.registry.server import config_file
from gantry.registry.server.config import Config
from gantry.registry.server.values import duration, size

FULL = """\
version: 0.1
log:
  accesslog: {disabled: true}
  level: debug
  formatter: json
  fields: {service: registry}
storage:
  filesystem: {rootdirectory: /data, maxthreads: 50}
  delete: {enabled: true}
  cache: {blobdescriptor: inmemory}
  maintenance:
    uploadpurging: {enabled: true, age: 24h, interval: 1h30m, dryrun: false}
    readonly: {enabled: false}
auth:
  htpasswd: {realm: a realm, path: /etc/htpasswd}
http:
  addr: localhost:5000
  secret: 12345
  relativeurls: true
  tls: {certificate: /x.crt, key: /x.key, clientcas: [/ca.pem], minimumtls: tls1.3}
  headers: {X-Frame-Options: [deny]}
  debug: {addr: localhost:5001, prometheus: {enabled: true, path: /metrics}}
notifications:
  endpoints:
    - {name: one, url: "https://example.org/hook", timeout: 500ms, threshold: 3, backoff: 2s}
health:
  storagedriver: {enabled: true, interval: 10s, threshold: 3}
proxy:
gantry:
  access:
    - {accounts: [alice], repositories: ["team/**"], actions: [push, pull]}
  retention:
    - {tags: ["pr-*"], keep-last: 5, younger-than: 7d}
  quotas:
    - {repositories: ["**"], bytes: 10GB}
"""


def load(text: str, **environ: str) -> Config:
    return config_file.load(text.encode(), environ, "config.yaml")[0]


def refused(text: str, **environ: str) -> str:
    with pytest.raises(InvalidArgument) as caught:
        load(text, **environ)
    return caught.value.message


def test_full() -> None:
    config, warnings = config_file.load(FULL.encode(), {}, "config.yaml")
    assert warnings == ["log.fields has no effect here", "storage.cache has no effect here"]
    assert config.storage.filesystem
    assert config.storage.filesystem.rootdirectory == "/data"
    assert config.storage.delete.enabled
    assert config.storage.maintenance.uploadpurging.interval == 5400
    assert config.http.secret == "12345"
    assert config.http.headers == {"X-Frame-Options": ("deny",)}
    assert config.notifications.endpoints[0].timeout == 0.5
    assert config.gantry.retention[0].keep_last == 5
    assert config.gantry.retention[0].younger_than == 7 * 86400
    assert config.gantry.quotas[0].bytes == 10 * 10**9


def test_environment_overrides() -> None:
    config = load(
        FULL,
        REGISTRY_HTTP_ADDR=":6000",
        REGISTRY_STORAGE_DELETE_ENABLED="false",
        REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="/other",
        REGISTRY_HTTP_HEADERS="{A: [b, c]}",
        REGISTRY_GANTRY_COLLECT_GRACE="2h",
        PATH="/bin",
    )
    assert config.http.addr == ":6000"
    assert not config.storage.delete.enabled
    assert config.storage.filesystem
    assert config.storage.filesystem.rootdirectory == "/other"
    assert config.http.headers == {"A": ("b", "c")}
    assert config.gantry.collect.grace == 7200


def test_environment_that_names_nothing_is_a_warning() -> None:
    """Container platforms set variables like REGISTRY_PORT of their own."""
    _, warnings = config_file.load(b"version: 0.1", {"REGISTRY_PORT": "tcp://10.0.0.1:5000"}, "x")
    assert warnings == ["REGISTRY_PORT names no key of the configuration and has no effect"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("version: 0.2", "version must be 0.1, not 0.2"),
        ("storage: {}", "version must be 0.1, not missing"),
        ("version: 0.1\nstorrage: {}", "unknown: storrage"),
        ("version: 0.1\nhttp: {adr: x}\nlog: {levle: x}", "unknown: http.adr, log.levle"),
        ("version: 0.1\nnotifications: {endpoints: [{name: a, url: b, x: 1}]}", "notifications.endpoints.x"),
        ("version: 0.1\nstorage: {gcs: {bucket: x}}", "not supported: storage.gcs (use storage.filesystem"),
        ("version: 0.1\nhttp: {tls: {letsencrypt: {}}}", "not supported: http.tls.letsencrypt"),
        ("version: 0.1\nstorage: {filesystem: {}, s3: {bucket: b}}", "cannot both"),
        ("version: 0.1\nauth: {htpasswd: {path: a}, token: {realm: a, service: b, issuer: c}}", "cannot both"),
        ("version: 0.1\nhttp: {tls: {certificate: a}}", "belong together"),
        ("version: 0.1\nhttp: {draintimeout: soon}", "soon"),
        ("version: 0.1\nstorage: {delete: {enabled: perhaps}}", "storage.delete.enabled"),
        ("version: 0.1\nlog: {level: loud}", "log.level"),
        ("version: 0.1\ngantry: {access: [{accounts: [a], actions: [fly]}]}", "fly"),
        ("version: 0.1\ngantry: {retention: [{tags: [a]}]}", "keep-last or younger-than"),
        ("version: 0.1\ngantry: {collect: {grace: 1s}}", "gantry.collect.grace"),
        ("version: 0.1\na: &a [x]\nb: [*c]", "config.yaml:3"),
        ("version: 0.1\nhttp: {addr: a, addr: b}", "twice"),
        ("version: 0.1\nhttp: [", "config.yaml:"),
        ("- 1", "a mapping is expected"),
        ("\x00", "config.yaml"),
    ],
)
def test_refused(text: str, words: str) -> None:
    if text:
        assert words in refused(text)
    else:
        assert load(text).http.addr == ":5000"


def test_bounded() -> None:
    bomb = "version: 0.1\nx0: &x0 [a]\n" + "".join(
        f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    assert "values" in refused(bomb)
    assert refused("version: 0.1\na: " + "[" * 5000)
    assert "larger" in refused("#" * (2 << 20))
    assert refused("a: &a [*a]")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        config_file.load(text.encode("utf-8", "surrogatepass"), {}, "x")


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("15s", 15), ("1h30m", 5400), ("1.5h", 5400), ("7d", 604800)])
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-5s", "1h ", "5x", "1" * 40 + "s"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration(text)


@pytest.mark.parametrize(("text", "count"), [("500", 500), ("10MB", 10**7), ("1.5GiB", 3 << 29), ("2 kb", 2000)])
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count
