"""`gantry login` and `gantry logout`."""

from __future__ import annotations

import sys

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string
from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gantry.cli.flags import Arguments

_NO_TERMINAL = "Error: Cannot perform an interactive login from a non TTY device"
_INFO = " Info -> To login with a different account, run '{0} logout' followed by '{0} login'"


def server_key(given: str) -> str:
    """Where the credentials of a registry are kept: its host name, Docker Hub's address for the default."""
    from gantry.client.auth import config_key

    return config_key(given.partition("://")[2].partition("/")[0] if "://" in given else given.partition("/")[0])


def _login(ctx: Context, args: Arguments) -> int:
    from gantry.client.auth import DOCKER_HUB, credentials

    username, password = args.string("username"), args.string("password")
    from_input = args.boolean("password-stdin")
    if "password" in args.changed and from_input:
        raise CommandError("conflicting options: cannot specify both --password and --password-stdin")
    if "username" in args.changed and not username:
        raise CommandError("username is empty")
    if from_input:
        if not username:
            raise CommandError("the --password-stdin option requires --username to be set")
        password = sys.stdin.read().rstrip("\r\n")
    elif password:
        ctx.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    server = args.positional[0] if args.positional else ""
    key = server_key(server) if server else DOCKER_HUB
    if not username and not password:
        known = credentials(ctx.config, key)
        if known:
            shown = f" [Username: {known['username']}]" if known.get("username") else ""
            ctx.warn(f"Authenticating with existing credentials...{shown}\n\n{_INFO.format(ctx.program)}\n\n")
            try:
                return _authenticate(ctx, known)
            except ClientError as error:
                ctx.out.flush()
                ctx.warn(f"Login did not succeed, error: {error.message}")
            username = known.get("username", "")
    if not username or not password:
        username, password = _ask(ctx, username, password)
    return _authenticate(ctx, {"username": username, "password": password, "serveraddress": key})


def _authenticate(ctx: Context, auth: dict[str, str]) -> int:
    from gantry.cli.login_store import store

    answer: dict[str, Any] = ctx.client.post("/auth", None, auth) or {}
    if answer.get("IdentityToken"):
        auth = {**auth, "password": "", "identitytoken": str(answer["IdentityToken"])}
    notice = store(ctx.config_dir, ctx.config, auth["serveraddress"], auth)
    if notice:
        ctx.warn(notice)
    ctx.out.write((answer.get("Status") or "Login Succeeded") + "\n")
    return 0


def _ask(ctx: Context, username: str, password: str) -> tuple[str, str]:
    """Ask on the terminal for what is missing; raises CommandError."""
    if not sys.stdin.isatty():
        raise CommandError(_NO_TERMINAL)
    if not password:
        import getpass

        while not username:
            ctx.out.write("Username: ")
            ctx.out.flush()
            line = sys.stdin.readline()
            if not line:
                raise CommandError("username is required")
            username = line.strip()
        try:
            password = getpass.getpass("Password: ")
        except EOFError:
            password = ""
    if not password:
        raise CommandError("password is required")
    return username, password


LOGIN = Command(
    _login,
    "[OPTIONS] [SERVER]",
    (
        string("password", "p", "Password or Personal Access Token (PAT)"),
        boolean("password-stdin", "", "Take the Password or Personal Access Token (PAT) from stdin"),
        string("username", "u", "Username"),
    ),
    most=1,
    description="Log in to a registry.\nWithout a server, Docker Hub is meant.",
)


def _logout(ctx: Context, args: Arguments) -> int:
    from gantry.cli.login_store import erase
    from gantry.client.auth import DOCKER_HUB

    if args.positional:
        server = args.positional[0]
        key = server_key(server)
        keys: tuple[str, ...] = (
            key,
            server,
            f"https://{key}",
            f"http://{key}",
            f"https://{key}/v1/",
            f"https://{key}/v2/",
        )
    else:
        key = DOCKER_HUB
        keys = (key,)
    ctx.out.write(f"Removing login credentials for {key}\n")
    erase(ctx.config_dir, ctx.config, tuple(dict.fromkeys(keys)))
    return 0


LOGOUT = Command(
    _logout,
    "[SERVER]",
    most=1,
    description="Log out from a registry.\nWithout a server, Docker Hub is meant.",
)
