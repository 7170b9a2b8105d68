"""`gantry registry htpasswd` and `gantry registry cert`: what a private registry needs before it serves."""

from __future__ import annotations

import getpass
import os
import sys

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, integer, string, strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gantry.cli.flags import Arguments

_PASSWORD_LIMIT = 72
_COST = 10


def _htpasswd(ctx: Context, args: Arguments) -> int:
    account = args.positional[0]
    if ":" in account or not account.isprintable() or account.startswith("#"):
        raise CommandError(f'account "{account}": a colon, a leading # and control characters cannot be in it')
    password = _password(args)
    if not password:
        raise CommandError("an empty password is refused")
    if len(password) > _PASSWORD_LIMIT:
        raise CommandError(f"the password has {len(password)} bytes: bcrypt looks at {_PASSWORD_LIMIT} at most")
    import bcrypt

    entry = f"{account}:{bcrypt.hashpw(password, bcrypt.gensalt(_COST)).decode()}"
    path = args.string("file")
    if not path:
        ctx.out.write(entry + "\n")
        return 0
    _replace(path, account, entry)
    return 0


def _password(args: Arguments) -> bytes:
    if args.boolean("password-stdin"):
        return sys.stdin.buffer.read(4096).rstrip(b"\r\n")
    if len(args.positional) > 1:
        return os.fsencode(args.positional[1])
    if not sys.stdin.isatty():
        raise CommandError("no terminal to ask for the password on: use --password-stdin")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise CommandError("the two passwords differ")
    return first.encode()


def _replace(path: str, account: str, entry: str) -> None:
    """Put the entry in place of the account's old one, or at the end; the file changes in one step."""
    lines: list[str] = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file.read().splitlines() if line.partition(":")[0] != account]
    temporary = f"{path}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "w", encoding="utf-8") as file:
        file.write("\n".join([*lines, entry]) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


HTPASSWD = Command(
    _htpasswd,
    "[OPTIONS] ACCOUNT [PASSWORD]",
    (
        string("file", "f", "Add the entry to this file, or replace the account's there (default: print it)"),
        boolean("password-stdin", "", "Take the password from standard input"),
    ),
    least=1,
    most=2,
    description="Make an entry of an htpasswd file with a bcrypt hash. Without PASSWORD it is asked for.",
)


def _cert(ctx: Context, args: Arguments) -> int:
    from gantry.cli.registry_cert import self_signed

    directory = args.string("directory")
    days = args["days"]
    if days < 1:
        raise CommandError(f"--days {days}: at least 1 is needed")
    certificate, key = self_signed([*args.positional, *args.strings("name")], days)
    os.makedirs(directory, exist_ok=True)
    for name, data, mode in (("registry.key", key, 0o600), ("registry.crt", certificate, 0o644)):
        path = os.path.join(directory, name)
        if os.path.exists(path) and not args.boolean("force"):
            raise CommandError(f"{path} is there already: --force replaces it")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
        ctx.out.write(path + "\n")
    return 0


CERT = Command(
    _cert,
    "[OPTIONS] ADDRESS [ADDRESS...]",
    (
        integer("days", "", "How long it is valid", default=825),
        string("directory", "d", "Where registry.crt and registry.key are written", default="."),
        boolean("force", "", "Replace files that are there"),
        strings("name", "", "A further host name or address in the certificate"),
    ),
    least=1,
    description=(
        "Make a self-signed certificate and its key for the given host names or addresses. Clients trust it when\n"
        "registry.crt lies in /etc/docker/certs.d/HOST:PORT/ca.crt."
    ),
)
