"""The registry's configuration: version 0.1 of Distribution's format, and our own section `gantry`.

Each Struct is one mapping of the file; a field's name is its key. What Distribution knows and we do not support is
refused by name (`UNSUPPORTED`), what has no meaning here is taken without effect (`WITHOUT_EFFECT`).
"""

from typing import Any

import msgspec

from gantry.registry.server.values import duration, size


class Duration(float):
    """Seconds, written as Go writes durations."""


class Size(int):
    """Bytes, written with a unit."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """One mapping."""


class AccessLog(Section, frozen=True, kw_only=True):
    disabled: bool = False


class Log(Section, frozen=True, kw_only=True):
    level: str = "info"
    formatter: str = "text"
    accesslog: AccessLog = AccessLog()


class Filesystem(Section, frozen=True, kw_only=True):
    rootdirectory: str = "/var/lib/registry"
    maxthreads: int = 100


class S3(Section, frozen=True, kw_only=True):
    """`stagingdirectory` is ours: where uploads grow until they are whole."""

    accesskey: str = ""
    secretkey: str = ""
    sessiontoken: str = ""
    region: str = "us-east-1"
    regionendpoint: str = ""
    bucket: str
    rootdirectory: str = ""
    encrypt: bool = False
    secure: bool = True
    skipverify: bool = False
    forcepathstyle: bool = False
    chunksize: Size = Size(10 << 20)
    storageclass: str = "STANDARD"
    stagingdirectory: str = "/var/lib/registry-staging"


class Enabled(Section, frozen=True, kw_only=True):
    enabled: bool = False


class UploadPurging(Section, frozen=True, kw_only=True):
    enabled: bool = True
    age: Duration = Duration(168 * 3600)
    interval: Duration = Duration(24 * 3600)
    dryrun: bool = False


class Maintenance(Section, frozen=True, kw_only=True):
    uploadpurging: UploadPurging = UploadPurging()
    readonly: Enabled = Enabled()


class Redirect(Section, frozen=True, kw_only=True):
    disable: bool = False


class Storage(Section, frozen=True, kw_only=True):
    filesystem: Filesystem | None = None
    s3: S3 | None = None
    delete: Enabled = Enabled()
    redirect: Redirect = Redirect()
    maintenance: Maintenance = Maintenance()


class Htpasswd(Section, frozen=True, kw_only=True):
    realm: str = "Registry"
    path: str


class Token(Section, frozen=True, kw_only=True):
    realm: str
    service: str
    issuer: str
    rootcertbundle: str = ""
    jwks: str = ""
    autoredirect: bool = False
    signingalgorithms: tuple[str, ...] = ()


class Auth(Section, frozen=True, kw_only=True):
    htpasswd: Htpasswd | None = None
    token: Token | None = None


class TLS(Section, frozen=True, kw_only=True):
    certificate: str = ""
    key: str = ""
    clientcas: tuple[str, ...] = ()
    minimumtls: str = "tls1.2"


class Prometheus(Section, frozen=True, kw_only=True):
    enabled: bool = False
    path: str = "/metrics"


class Debug(Section, frozen=True, kw_only=True):
    addr: str = ""
    prometheus: Prometheus = Prometheus()


class HTTP(Section, frozen=True, kw_only=True):
    addr: str = ":5000"
    net: str = "tcp"
    prefix: str = ""
    host: str = ""
    secret: str = ""
    relativeurls: bool = False
    draintimeout: Duration = Duration(60)
    tls: TLS = TLS()
    headers: dict[str, tuple[str, ...]] = {}
    debug: Debug = Debug()


class Ignore(Section, frozen=True, kw_only=True):
    mediatypes: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()


class Endpoint(Section, frozen=True, kw_only=True):
    name: str
    url: str
    disabled: bool = False
    headers: dict[str, tuple[str, ...]] = {}
    timeout: Duration = Duration(1)
    threshold: int = 5
    backoff: Duration = Duration(1)
    ignoredmediatypes: tuple[str, ...] = ()
    ignore: Ignore = Ignore()


class Events(Section, frozen=True, kw_only=True):
    includereferences: bool = False


class Notifications(Section, frozen=True, kw_only=True):
    events: Events = Events()
    endpoints: tuple[Endpoint, ...] = ()


class Proxy(Section, frozen=True, kw_only=True):
    remoteurl: str = ""
    username: str = ""
    password: str = ""
    ttl: Duration = Duration(168 * 3600)


class StorageCheck(Section, frozen=True, kw_only=True):
    enabled: bool = False
    interval: Duration = Duration(10)
    threshold: int = 3


class FileCheck(Section, frozen=True, kw_only=True):
    file: str
    interval: Duration = Duration(10)


class HTTPCheck(Section, frozen=True, kw_only=True):
    uri: str
    headers: dict[str, tuple[str, ...]] = {}
    statuscode: int = 200
    timeout: Duration = Duration(5)
    interval: Duration = Duration(10)
    threshold: int = 1


class TCPCheck(Section, frozen=True, kw_only=True):
    addr: str
    timeout: Duration = Duration(5)
    interval: Duration = Duration(10)
    threshold: int = 1


class Health(Section, frozen=True, kw_only=True):
    storagedriver: StorageCheck = StorageCheck()
    file: tuple[FileCheck, ...] = ()
    http: tuple[HTTPCheck, ...] = ()
    tcp: tuple[TCPCheck, ...] = ()


class Catalog(Section, frozen=True, kw_only=True):
    maxentries: int = 1000


class URLs(Section, frozen=True, kw_only=True):
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class Indexes(Section, frozen=True, kw_only=True):
    platforms: str = "all"


class ManifestChecks(Section, frozen=True, kw_only=True):
    urls: URLs = URLs()
    indexes: Indexes = Indexes()


class Validation(Section, frozen=True, kw_only=True):
    disabled: bool = False
    manifests: ManifestChecks = ManifestChecks()


class Rule(Section, frozen=True, kw_only=True):
    """Who may do what where. Accounts: names, patterns, `anonymous`; actions: pull, push, create, delete, admin."""

    accounts: tuple[str, ...]
    repositories: tuple[str, ...] = ("**",)
    actions: tuple[str, ...]


class Immutable(Section, frozen=True, kw_only=True):
    """Tags that can be set once."""

    repositories: tuple[str, ...] = ("**",)
    tags: tuple[str, ...] = ("*",)


class Retention(Section, frozen=True, kw_only=True):
    """Tags that go: those that neither `keep-last` nor `younger-than` keeps."""

    repositories: tuple[str, ...] = ("**",)
    tags: tuple[str, ...] = ("*",)
    keep_last: int = 0
    younger_than: Duration = Duration(0)


class Quota(Section, frozen=True, kw_only=True):
    """At most `bytes` in all repositories that match together."""

    repositories: tuple[str, ...] = ("**",)
    bytes: Size


class Collect(Section, frozen=True, kw_only=True):
    """The garbage collector. `untagged` removes manifests without a tag after that time (0: never)."""

    enabled: bool = True
    interval: Duration = Duration(3600)
    grace: Duration = Duration(3600)
    untagged: Duration = Duration(0)


class Audit(Section, frozen=True, kw_only=True):
    path: str = ""


class Limits(Section, frozen=True, kw_only=True):
    """Against slow and greedy clients."""

    idle: Duration = Duration(300)
    header: Duration = Duration(30)


class Gantry(Section, frozen=True, kw_only=True):
    """What Distribution does not have."""

    access: tuple[Rule, ...] = ()
    immutable: tuple[Immutable, ...] = ()
    retention: tuple[Retention, ...] = ()
    quotas: tuple[Quota, ...] = ()
    collect: Collect = Collect()
    audit: Audit = Audit()
    limits: Limits = Limits()
    metrics: bool = False


class Config(Section, frozen=True, kw_only=True):
    version: str = "0.1"
    log: Log = Log()
    storage: Storage = Storage()
    auth: Auth = Auth()
    http: HTTP = HTTP()
    notifications: Notifications = Notifications()
    proxy: Proxy = Proxy()
    health: Health = Health()
    catalog: Catalog = Catalog()
    validation: Validation = Validation()
    gantry: Gantry = Gantry()


UNSUPPORTED = {
    "auth.silly": "it is a test of Distribution's: use htpasswd or token",
    "http.tls.ciphersuites": "OpenSSL's defaults for TLS 1.2 and 1.3 are used",
    "http.tls.letsencrypt": "let a client like certbot fetch the certificate",
    "middleware": "there is no middleware",
    "proxy.exec": "write proxy.username and proxy.password",
    "proxy.command": "write proxy.username and proxy.password",
    "log.hooks": "let the log's reader send mail",
    "reporting": "there is no reporting service",
    "storage.azure": "use storage.filesystem or storage.s3",
    "storage.gcs": "use storage.filesystem or storage.s3",
    "storage.inmemory": "use storage.filesystem on a tmpfs",
    "storage.oss": "use storage.filesystem or storage.s3",
    "storage.swift": "use storage.filesystem or storage.s3",
    "storage.s3.keyid": "encryption with keys of KMS is not offered",
    "storage.s3.accelerate": "transfer acceleration is not offered",
}
"""Keys of Distribution that are refused, and what to do."""

WITHOUT_EFFECT = frozenset({
    "log.fields",
    "compatibility",
    "http.h2c",
    "http.http2",
    "policy",
    "redis",
    "storage.cache",
    "storage.tag",
    "storage.s3.v4auth",
    "storage.s3.logs3level",
    "storage.s3.loglevel",
    "storage.s3.usedualstack",
    "storage.s3.multipartcopychunksize",
    "storage.s3.multipartcopymaxconcurrency",
    "storage.s3.multipartcopythresholdsize",
    "storage.s3.useragent",
    "storage.s3.objectacl",
    "http.debug.tls",
    "validation.enabled",
})  # fmt: skip
"""Keys of Distribution that change nothing here: what they tune does not exist."""


def convert_special(kind: type, value: Any) -> Any:
    """`dec_hook` of msgspec: durations and sizes."""
    if kind is Duration:
        return Duration(duration(str(value)))
    if kind is Size:
        return Size(size(str(value)))
    raise NotImplementedError(kind)
