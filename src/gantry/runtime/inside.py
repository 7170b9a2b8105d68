"""Things that belong to a container's network and are used from outside of it."""

import os
import socket
import threading

from gantry.errors import NotFound
from gantry.linux.namespaces import CLONE_NEWNET, namespace_path, setns


def tcp_socket(pid: int, family: int) -> socket.socket:
    """A non-blocking TCP socket in a process's network namespace, where it stays; blocks for a moment.

    The thread that enters the namespace ends with it. Raises NotFound where the process has ended.
    """
    try:
        descriptor = os.open(namespace_path(pid, "net"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"process {pid} has ended") from error
    made: list[socket.socket] = []
    problems: list[OSError] = []

    def enter() -> None:
        try:
            setns(descriptor, CLONE_NEWNET)
            made.append(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC))
        except OSError as error:
            problems.append(error)

    try:
        thread = threading.Thread(target=enter, name="gantry-netns")
        thread.start()
        thread.join()
    finally:
        os.close(descriptor)
    if problems:
        raise NotFound(f"the network of process {pid} is gone: {problems[0].strerror}") from problems[0]
    return made[0]
