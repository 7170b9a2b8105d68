"""What the context commands share: records, the default context, TLS material, archives of a context."""

from __future__ import annotations

import os

from gantry.cli.errors import CommandError
from gantry.client.contexts import ContextStore
from gantry.client.endpoints import current_context, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from gantry.cli.command import Context

DESCRIPTION = "Current DOCKER_HOST based configuration"
"""Of the default context, which is stored nowhere."""
_ARCHIVE_LIMIT = 10 << 20


def current(ctx: Context) -> str:
    """The name of the chosen context."""
    return current_context(ctx.flags, ctx.environ, ctx.config)


def check_name(name: str) -> None:
    """Raises CommandError for a name that a stored context cannot have."""
    if name == "default":
        raise CommandError('"default" is a reserved context name')
    good = len(name) > 1 and name.isascii() and name[0].isalnum() and all(c.isalnum() or c in "_.+-" for c in name[1:])
    if not name:
        raise CommandError("context name cannot be empty")
    if not good:
        raise CommandError(
            f'context name "{name}" is invalid, names are validated against regexp "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"'
        )


def record_of(ctx: Context, name: str) -> dict[str, Any]:
    """A context's record (meta.json); the default context's is made of flags and environment."""
    if name != "default":
        return ContextStore(ctx.config_dir).load(name)
    plain = {key: item for key, item in ctx.environ.items() if key != "DOCKER_CONTEXT"}
    endpoint = resolve(_WithoutContext(ctx), plain, ctx.config_dir, {})
    insecure = endpoint.tls is not None and not endpoint.tls.verify
    return {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": endpoint.url, "SkipTLSVerify": insecure}}}


class _WithoutContext:
    """The global flags, as if no context were chosen."""

    def __init__(self, ctx: Context) -> None:
        self._flags = ctx.flags
        self.changed = ctx.flags.changed
        self.strings = ctx.flags.strings
        self.boolean = ctx.flags.boolean

    def string(self, name: str) -> str:
        return "" if name == "context" else self._flags.string(name)


def docker_endpoint(record: dict[str, Any]) -> dict[str, Any]:
    return dict((record.get("Endpoints") or {}).get("docker") or {})


def tls_content(ctx: Context, name: str) -> dict[str, dict[str, bytes]]:
    """Stored TLS files: endpoint -> file name -> content."""
    store = ContextStore(ctx.config_dir)
    if name == "default":
        return {}
    root = store.tls_dir(name)
    found: dict[str, dict[str, bytes]] = {}
    for endpoint, files in store.tls_files(name).items():
        found[endpoint] = {file: (root / endpoint / file).read_bytes() for file in files}
    return found


def check_tls(files: dict[str, bytes]) -> None:
    """Raises CommandError where a CA or key pair is unusable."""
    if not files:
        return
    import ssl
    import tempfile

    if "ca.pem" in files:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=files["ca.pem"].decode("latin-1"))
        except (ssl.SSLError, ValueError):
            raise CommandError("ca.pem seems invalid") from None
    if ("cert.pem" in files) != ("key.pem" in files):
        raise CommandError("both cert and key must be given")
    if "cert.pem" in files:
        with tempfile.TemporaryDirectory(prefix="gantry-") as directory:
            for name in ("cert.pem", "key.pem"):
                with open(os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
                    out.write(files[name])
            try:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem", password="")
            except (ssl.SSLError, OSError) as error:
                raise CommandError(f"tls: cert.pem and key.pem are no key pair: {error}") from error


# ------------------------------------------------------------------------------------ archives


def export_context(ctx: Context, name: str, target: str) -> None:
    """Write a context as a tar archive to a new file, or standard output for "-"; raises CommandError."""
    import io
    import tarfile

    from gantry.cli.terminal import is_terminal
    from gantry.client import jsontext

    if name != "default":
        check_name(name)
    record = record_of(ctx, name)
    tls = tls_content(ctx, name)
    if target == "-" and is_terminal(1):
        raise CommandError("cowardly refusing to export to a terminal, specify a file path")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(path: str, data: bytes, mode: int) -> None:
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))

        add("meta.json", jsontext.encode(record), 0o644)
        for path in ("tls", *(f"tls/{endpoint}" for endpoint in sorted(tls))):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(entry)
        for endpoint, files in sorted(tls.items()):
            for file, data in sorted(files.items()):
                add(f"tls/{endpoint}/{file}", data, 0o600)
    if target == "-":
        ctx.out.flush()
        ctx.out.buffer.write(buffer.getvalue())
        return
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandError(f"open {target}: {os.strerror(error.errno or 0).lower()}") from error
    with open(descriptor, "wb") as out:
        out.write(buffer.getvalue())
    ctx.warn(f'Written file "{target}"')


def import_context(ctx: Context, name: str, source: str) -> None:
    """Store a context from a tar or zip archive; raises CommandError."""
    import json

    check_name(name)
    store = ContextStore(ctx.config_dir)
    if store.exists(name):
        raise CommandError(f'context "{name}" already exists')
    record: dict[str, Any] | None = None
    tls: dict[str, dict[str, bytes]] = {}
    for path, data in _entries(_archive(source)):
        parts = path.split("/")
        if path == "meta.json":
            try:
                record = json.loads(data)
            except ValueError as error:
                raise CommandError(f"invalid context: meta.json: {error}") from error
        elif parts[0] == "tls" and len(parts) == 3 and not {"", ".", ".."} & set(parts):
            tls.setdefault(parts[1], {})[parts[2]] = data
        else:
            raise CommandError(f"unexpected context file: {path}")
    if not isinstance(record, dict):
        raise CommandError("invalid context: no metadata found")
    store.save({**record, "Name": name}, tls)


def _archive(source: str) -> bytes:
    try:
        with open(0 if source == "-" else source, "rb", closefd=source != "-") as file:
            data = file.read(_ARCHIVE_LIMIT + 1)
    except OSError as error:
        raise CommandError(f"open {source}: {os.strerror(error.errno or 0).lower()}") from error
    if len(data) > _ARCHIVE_LIMIT:
        raise CommandError(f"read exceeds the defined limit of {_ARCHIVE_LIMIT} bytes")
    return data


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(clean path, content) of an archive's regular files."""
    import io
    import tarfile
    import zipfile

    if data.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for info in archive.infolist():
                    if info.file_size > _ARCHIVE_LIMIT:
                        raise CommandError(f"read exceeds the defined limit of {_ARCHIVE_LIMIT} bytes")
                    if not info.is_dir():
                        yield os.path.normpath(info.filename), archive.read(info)
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise CommandError(f"invalid context archive: {error}") from error
        return
    data += bytes(-len(data) % 512 + 1024)  # Docker's own archives end without padding and end marks
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for entry in tar:
                file = tar.extractfile(entry) if entry.isfile() else None
                if file is not None:
                    yield os.path.normpath(entry.name), file.read()
    except tarfile.TarError:
        raise CommandError("archive/tar: invalid tar header") from None
