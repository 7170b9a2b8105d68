"""What crun and runc say, in Docker's words."""

import pytest

from gantry.errors import Internal, InvalidArgument
from gantry.runtime.messages import create_error, exec_error

CREATE = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: "
)
NOT_FOUND = 'exec: "foo": executable file not found in $PATH'
NO_FILE = 'exec: "/a/b": stat /a/b: no such file or directory'
START = "unable to start container process: "
EXEC = "OCI runtime exec failed: exec failed: unable to start container process: "


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("executable file `foo` not found in $PATH: No such file or directory", NOT_FOUND),
        ("executable file `/a/b` not found in $PATH: No such file or directory", NO_FILE),
        ("executable file `/a/b` not found: No such file or directory", NO_FILE),
        ("2026-11-24T01:02:03.000Z: executable file 'foo' not found in $PATH", NOT_FOUND),
        ("open executable: Permission denied", 'exec: "cmd": permission denied'),
        ("open executable: Operation not permitted", 'exec: "cmd": is a directory: permission denied'),
    ],
)
def test_bad_commands_of_crun(said: str, cause: str) -> None:
    refused = create_error("crun", said, "cmd")
    assert isinstance(refused, InvalidArgument)
    assert refused.message == f"{CREATE}error during container init: {cause}"
    assert exec_error(said, "cmd").message == EXEC + cause


def test_working_directory() -> None:
    assert exec_error("chdir `/nosuch`: No such file or directory", "x").message == (
        f'{EXEC}chdir to cwd ("/nosuch") set in config.json failed: no such file or directory'
    )
    assert exec_error("chdir to `/f`: Not a directory", "x").message.endswith("is the expected type")


def runc(level: str, message: str) -> str:
    quoted = message.replace('"', '\\"')
    return f'time="2026-11-24T02:26:38Z" level={level} msg="{quoted}"\n'


def test_runc_speaks_as_docker_does() -> None:
    said = runc("error", f"runc create failed: {START}{NOT_FOUND}")
    assert create_error("runc", said, "foo").message == CREATE + NOT_FOUND
    said = runc("error", f'exec failed: {START}exec: "foo": permission denied')
    assert exec_error(said, "foo").message == f'{EXEC}exec: "foo": permission denied'


def test_the_last_error_counts() -> None:
    said = runc("warning", "cannot toggle freezer") + runc("error", f"runc create failed: {START}y")
    assert create_error("runc", said, "foo").message == f"{CREATE}y"


def test_other_failures_are_not_the_users_fault() -> None:
    refused = create_error("crun", "mount `/x` to `y`: Not a directory", "cmd")
    assert isinstance(refused, Internal)
    assert refused.message.endswith("OCI runtime create failed: crun: mount `/x` to `y`: not a directory")
    assert create_error("crun", "", "cmd").message.endswith("the runtime gave no reason")
    assert isinstance(exec_error("  \n", "cmd"), Internal)
