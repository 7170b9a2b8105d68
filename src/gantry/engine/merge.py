"""Pure rules: an image's configuration under a container's, and the process that comes of both."""

import re
import signal
from collections.abc import Sequence

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.container import Container, ContainerConfig, HealthConfig
from gantry.model.task import ProcessSpec

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def merge_config(asked: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """What was asked for, with the image's values where nothing was (Docker's rules for each field).

    The result's environment is as it was asked for, followed by what only the image names.
    """
    entrypoint, cmd = asked.entrypoint, asked.cmd
    if not entrypoint:
        cmd = cmd or image.cmd
        if entrypoint is None:
            entrypoint = image.entrypoint
    if entrypoint == [""]:
        entrypoint = None
    return msgspec.structs.replace(
        asked,
        user=asked.user or image.user,
        exposed_ports={**(image.exposed_ports or {}), **(asked.exposed_ports or {})} or None,
        env=_with_base(asked.env, image.env),
        cmd=cmd,
        entrypoint=entrypoint,
        healthcheck=_merge_health(asked.healthcheck, image.healthcheck),
        volumes={**(image.volumes or {}), **(asked.volumes or {})} or None,
        working_dir=asked.working_dir or image.working_dir,
        labels={**(image.labels or {}), **(asked.labels or {})},
        stop_signal=asked.stop_signal or image.stop_signal,
        shell=asked.shell or image.shell,
    )


def _with_base(own: list[str] | None, base: list[str] | None) -> list[str] | None:
    named = {item.partition("=")[0] for item in own or ()}
    return [*(own or ()), *(item for item in base or () if item.partition("=")[0] not in named)] or None


def _merge_health(asked: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    """Field by field: what is zero or empty comes from the image."""
    if asked is None or image is None:
        return asked or image
    given = {name: value for name, value in msgspec.structs.asdict(asked).items() if value}
    return msgspec.structs.replace(image, **given)


def command_of(config: ContainerConfig) -> tuple[str, list[str]]:
    """Program and arguments; raises InvalidArgument where there is neither entrypoint nor command."""
    words = [*(config.entrypoint or ()), *(config.cmd or ())]
    if not words:
        raise InvalidArgument("no command specified")
    return words[0], words[1:]


def merge_env(base: list[str], over: list[str]) -> list[str]:
    """The environment of a process: `over` replaces by name; a name without `=` takes the variable away."""
    merged: dict[str, str] = {}
    for item in (*base, *over):
        name, equals, _ = item.partition("=")
        if not name:
            raise InvalidArgument(f"invalid environment variable: {item}")
        if equals:
            merged[name] = item
        else:
            merged.pop(name, None)
    return list(merged.values())


def container_process(container: Container, linked: Sequence[str] = ()) -> ProcessSpec:
    """The process that a container runs; `linked` are the variables of its links."""
    config, host = container.config, container.host_config
    env = [DEFAULT_PATH]
    if config.hostname:
        env.append(f"HOSTNAME={config.hostname}")
    if config.tty:
        env.append("TERM=xterm")
    size = host.console_size
    return ProcessSpec(
        args=(container.path, *container.args),
        env=tuple(merge_env([*env, *linked], config.env or [])),
        cwd=config.working_dir or "/",
        user=config.user,
        groups=tuple(host.group_add or ()),
        tty=config.tty,
        stdin=config.open_stdin,
        privileged=host.privileged,
        console_size=(size[0], size[1]) if size and size[0] and size[1] else None,
    )


def parse_signal(text: str, default: int = signal.SIGTERM) -> int:
    """A signal's number from `9`, `KILL` or `SIGKILL`; raises InvalidArgument with Docker's words."""
    if not text:
        return int(default)
    if text.isdecimal():
        number = int(text)
        if 0 < number <= 64:
            return number
        raise InvalidArgument(f"invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    if real_time := re.fullmatch(r"RT(MIN|MAX)(?:([+-])(\d{1,2}))?", name):
        base = int(signal.SIGRTMIN if real_time[1] == "MIN" else signal.SIGRTMAX)
        offset = int(real_time[3] or 0)
        number = base - offset if real_time[2] == "-" else base + offset
        if int(signal.SIGRTMIN) <= number <= int(signal.SIGRTMAX):
            return number
        raise InvalidArgument(f"invalid signal: {text}")
    try:
        return int(signal.Signals["SIG" + name])
    except KeyError:
        raise InvalidArgument(f"invalid signal: {text}") from None
