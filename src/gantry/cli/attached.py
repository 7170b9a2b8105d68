"""An attached container as `run`, `start` and `attach` use it: streams, signals, terminal, exit status."""

from __future__ import annotations

from gantry.cli import signals
from gantry.cli.errors import CommandError
from gantry.cli.streams import PendingExit, Pump, wait_with_signals
from gantry.cli.terminal import DEFAULT_DETACH_KEYS, RawMode, detach_keys, is_terminal, size
from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from gantry.cli.command import Context
    from gantry.client.stream import Stream


def resize(ctx: Context, path: str) -> bool:
    """Give a container's or exec's terminal the size of ours; False where it is not (yet) there."""
    rows, columns = size()
    if rows and columns:
        try:
            ctx.client.post(path, {"h": rows, "w": columns})
        except ClientError:
            return False
    return True


def escape_keys(text: str) -> bytes:
    """The bytes that detach, by --detach-keys; raises CommandError."""
    try:
        return detach_keys(text) if text else DEFAULT_DETACH_KEYS
    except ValueError as error:
        raise CommandError(f"invalid detach keys ({text}): {error}") from error


class Attachment:
    """Use: `with Attachment(...) as it: it.connect(); it.expect_exit(...); start; it.pump(); it.exit_status()`."""

    def __init__(
        self,
        ctx: Context,
        container: str,
        *,
        stdin: bool,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool,
        keys: str = "",
        sig_proxy: bool = True,
    ) -> None:
        self._ctx = ctx
        self._container = container
        self._wanted = {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr}
        self._stdin = stdin
        self._tty = tty
        self._keys = keys
        self._sig_proxy = sig_proxy
        self._stream: Stream | None = None
        self._pending: PendingExit | None = None
        self._raw = RawMode(enabled=tty and stdin)
        caught = signals.forwardable() if sig_proxy else set()
        if tty:
            caught.add(signals.WINDOW_CHANGE)
        self._signals = signals.SignalPipe(caught)

    def __enter__(self) -> Self:
        self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.__exit__(kind, error, trace)

    def connect(self) -> None:
        """Attach; output from now on is kept for `pump`."""
        query = {**{name: wanted or None for name, wanted in self._wanted.items()}, "detachKeys": self._keys or None}
        self._stream = self._ctx.client.upgrade(f"/containers/{self._container}/attach", query, framed=not self._tty)

    def expect_exit(self, condition: str = "") -> PendingExit:
        """Begin to wait for the exit, so that `start` cannot be too fast."""
        path = f"/containers/{self._container}/wait"
        self._pending = PendingExit(self._ctx.client.request("POST", path, {"condition": condition or None}))
        return self._pending

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def pump(self) -> bool:
        """Join the streams until they end; True where the user detached."""
        assert self._stream is not None
        self._ctx.out.flush()
        with self._raw:
            pump = Pump(
                self._stream,
                self._signals,
                self._on_signal,
                stdin=self._stdin,
                keys=escape_keys(self._keys) if self._tty and self._stdin and is_terminal(0) else None,
                pending_exit=self._pending,
            )
            pump.run()
        return pump.detached

    def exit_status(self) -> int:
        """Wait for the exit that `expect_exit` announced."""
        assert self._pending is not None
        return wait_with_signals(self._pending, self._signals, self._on_signal)

    def _on_signal(self, number: int) -> None:
        if number == signals.WINDOW_CHANGE and self._tty:
            resize(self._ctx, f"/containers/{self._container}/resize")
            return
        try:
            self._ctx.client.post(f"/containers/{self._container}/kill", {"signal": signals.names()[number]})
        except ClientError:  # it has ended: its exit is about to be reported
            return
