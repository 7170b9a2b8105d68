"""Start `gantryd` where none answers on the default sockets; only root's command line does this."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from gantry.client.endpoints import DOCKER_SOCKET, GANTRY_SOCKET, Endpoint
from gantry.client.errors import ClientError, ConnectionFailed
from gantry.client.http import Connection
from gantry.client.transport import dial

_LOG = Path("/var/log/gantry/gantryd.log")
_PATIENCE = 20.0
"""Seconds until a daemon that does not answer counts as failed."""


def start_daemon() -> Endpoint:
    """Start a detached gantryd, say so in one line on standard error, and wait until it answers."""
    program = Path(sys.executable).with_name("gantryd")
    command = [str(program)] if program.is_file() else [sys.executable, "-m", "gantry.daemon.main"]
    try:
        _LOG.parent.mkdir(parents=True, exist_ok=True)
        log = _LOG.open("ab")
    except OSError as error:
        raise ConnectionFailed(f"cannot start gantryd: {_LOG}: {error.strerror}") from error
    sys.stderr.write(f"Starting gantryd (log: {_LOG}; GANTRY_AUTOSTART=0 turns this off)\n")
    sys.stderr.flush()
    with log:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        except OSError as error:
            raise ConnectionFailed(f"cannot start gantryd: {command[0]}: {error.strerror}") from error
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for path in (DOCKER_SOCKET, GANTRY_SOCKET):
            endpoint = Endpoint("unix://" + path)
            if _answers(endpoint):
                process.returncode = 0  # it lives on by itself: no warning that it still runs
                return endpoint
        if process.poll() is not None:
            raise ConnectionFailed(f"gantryd ended with status {process.returncode}; {_LOG} says why: {_last_line()}")
        time.sleep(0.02)
    raise ConnectionFailed(f"gantryd was started and does not answer; see {_LOG}")


def _answers(endpoint: Endpoint) -> bool:
    try:
        connection = Connection(dial(endpoint))
    except ClientError:
        return False
    try:
        connection.send(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return connection.response().status == 200
    except (ClientError, OSError):
        return False
    finally:
        connection.close()


def _last_line() -> str:
    with _LOG.open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - 4096))
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "nothing"
