"""`gantryd`: from the command line to a serving daemon and back."""

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gantry import __version__
from gantry.daemon import flags, locks
from gantry.daemon import logging as daemon_log
from gantry.daemon.config import RELOADABLE, Config, load
from gantry.daemon.listeners import Listener, open_listeners, serve_all
from gantry.daemon.notify import notify
from gantry.errors import GantryError, InvalidArgument
from gantry.linux import mountns
from gantry.runtime.bundle import surviving_pids

if TYPE_CHECKING:
    from gantry.daemon.wiring import Assembly

log = logging.getLogger(__name__)


def main() -> int:
    """Entry point of the `gantryd` program; returns its exit code."""
    started = time.monotonic()
    try:
        line = flags.parse(sys.argv[1:])
    except InvalidArgument as error:
        return _refuse(f"{error.message}\nSee 'gantryd --help'.\n\n{flags.USAGE}")
    if line.help:
        sys.stdout.write(flags.help_text() + "\n")
        return 0
    if line.version:
        sys.stdout.write(f"Gantry version {__version__}\n")
        return 0
    try:
        config = load(line)
        if line.validate:
            sys.stderr.write("configuration OK\n")
            return 0
        return run(config, lambda: load(line), started)
    except GantryError as error:
        return _refuse(error.message)
    except OSError as error:
        log.debug("", exc_info=True)
        return _refuse(f"failed to start daemon: {error}")
    except Exception:
        log.critical("the daemon ends: this is a bug", exc_info=True)
        return 1


def _refuse(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 1


def run(config: Config, reread: Callable[[], Config], started: float) -> int:
    """Serve until a signal ends it. Raises GantryError where it cannot start."""
    if os.geteuid() != 0:
        raise InvalidArgument("gantryd needs to be started with root privileges: mounts and namespaces are made")
    daemon_log.configure(config.log_level, config.log_format, debug=config.debug)
    for warning in config.warnings:
        log.warning("%s", warning)
    faulthandler.register(signal.SIGUSR1)  # every thread's stack to the log, as dockerd does it
    os.umask(0o022)
    os.chdir("/")
    instance = config.instance
    with contextlib.ExitStack() as stack:
        instance.exec_root.mkdir(mode=0o711, parents=True, exist_ok=True)
        stack.enter_context(locks.locked(instance.data_root))
        stack.enter_context(locks.pid_file(config.pid_path))
        mountns.enter(instance, surviving_pids(instance))
        listeners = open_listeners(config)
        for listener in listeners:
            stack.callback(listener.close)
        import uvloop  # after the mount namespace: nothing before it may start a thread

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, reread, listeners, started))
    return 0


async def _serve(config: Config, reread: Callable[[], Config], listeners: Sequence[Listener], started: float) -> None:
    from gantry.api.app import Server, application
    from gantry.daemon.wiring import Assembly

    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _asked_to_stop, stop)
    loop.add_signal_handler(signal.SIGHUP, reload.set)

    assembly = await Assembly.make(config)
    server = Server(application(assembly.routes))
    serving = False
    try:
        if not await _first(assembly.start(), stop):
            return
        await server.start()
        await serve_all(listeners, server.protocol)
        serving = True
        gc.collect()
        gc.freeze()  # what has been loaded stays: the collector need not walk it again
        log.info("Daemon has completed initialization in %d ms", (time.monotonic() - started) * 1000)
        notify("READY=1", f"MAINPID={os.getpid()}", f"STATUS=Serving on {', '.join(each.name for each in listeners)}")
        await _until_stopped(assembly, reread, stop, reload)
        notify("STOPPING=1")
    finally:
        for listener in listeners:
            listener.close()
        if serving:
            await assembly.stop_containers()
            await server.close(patience=5.0)
        await assembly.stop()
        log.info("Daemon has stopped")


async def _first(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Do `work`, unless we are asked to stop meanwhile; True where it was done."""
    from gantry.aio import TaskOwner

    failures: list[GantryError] = []

    async def attempt() -> None:
        try:
            await work
        except GantryError as error:
            failures.append(error)

    async with TaskOwner("start") as owner:
        task, stopping = owner.spawn(attempt()), owner.spawn(stop.wait())
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        done = task.done()
    for failure in failures:
        raise failure
    if done and not task.cancelled() and (error := task.exception()) is not None:
        raise error  # a daemon that is half started must not serve
    return done


def _asked_to_stop(stop: asyncio.Event) -> None:
    if stop.is_set():
        log.warning("Asked to stop again: leaving at once; containers and their resources stay for the next start")
        os._exit(130)
    log.info("Processing signal: stopping")
    stop.set()


async def _until_stopped(
    assembly: "Assembly", reread: Callable[[], Config], stop: asyncio.Event, reload: asyncio.Event
) -> None:
    from gantry.aio import TaskOwner

    async with TaskOwner("signals") as owner:
        while not stop.is_set():
            waiting = {owner.spawn(stop.wait()), owner.spawn(reload.wait())}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if reload.is_set() and not stop.is_set():
                reload.clear()
                _reload(assembly, reread)


def _reload(assembly: "Assembly", reread: Callable[[], Config]) -> None:
    """SIGHUP: take over Docker's reloadable keys; a bad file changes nothing."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        fresh = reread()
    except GantryError as error:
        log.error("could not reload the configuration: %s", error.message)  # noqa: TRY400 - the message says all
    else:
        names = [key.replace("-", "_") for key in RELOADABLE]
        changed = {name: getattr(fresh, name) for name in names}
        config = msgspec.structs.replace(assembly.config, **changed)
        daemon_log.configure(config.log_level, config.log_format, debug=config.debug)
        assembly.reload(config)
        log.info("Reloaded configuration")
    notify("READY=1")


if __name__ == "__main__":
    raise SystemExit(main())
