"""The HEALTHCHECK instruction of `commit --change` and `import --change`."""

import re

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.container import HealthConfig
from gantry.wire.times import duration

_FLAG = re.compile(r"--([a-z-]+)=(\S+)\s+")
_TIMES = {
    "interval": "interval", "timeout": "timeout", "start-period": "start_period", "start-interval": "start_interval",
}  # fmt: skip


def parse_healthcheck(text: str) -> HealthConfig:
    """`NONE`, or `[--FLAG=VALUE …] CMD COMMAND`; raises InvalidArgument."""
    times: dict[str, int] = {}
    retries = 0
    rest = text
    while flag := _FLAG.match(rest):
        name, value = flag[1], flag[2]
        if name == "retries":
            if not value.isascii() or not value.isdecimal() or not 0 < int(value[:10]) < 1 << 31:
                raise InvalidArgument(f"--retries must be at least 1 (not {value[:20]})")
            retries = int(value)
        elif name in _TIMES:
            times[_TIMES[name]] = duration(value)
        else:
            raise InvalidArgument(f"unknown flag: {name}")
        rest = rest[flag.end() :]
    kind, _, command = rest.partition(" ")
    command = command.strip()
    if kind.upper() == "NONE":
        if command:
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        return HealthConfig(test=["NONE"])
    if kind.upper() != "CMD":
        raise InvalidArgument(f'Unknown type "{kind[:64].upper()}" in HEALTHCHECK (try CMD)')
    if not command:
        raise InvalidArgument("Missing command after HEALTHCHECK CMD")
    return msgspec.structs.replace(HealthConfig(test=_words(command), retries=retries), **times)


def _words(command: str) -> list[str]:
    if command.startswith("["):
        try:
            return ["CMD", *msgspec.json.decode(command, type=list[str])]
        except msgspec.DecodeError:
            pass  # as in a Dockerfile: what is no list of words is for the shell
    return ["CMD-SHELL", command]
