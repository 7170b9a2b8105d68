"""The daemon's own log, on standard error: one line per message, as dockerd writes it, or JSON."""

import logging
import sys
import time

import msgspec

_LEVELS = {"trace": 10, "debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50, "panic": 50}
_NAMES = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "fatal"}


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        line = f"time={_now(record)} level={_NAMES.get(record.levelno, 'info')} msg={_quoted(message)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _JSON(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "level": _NAMES.get(record.levelno, "info"),
            "msg": record.getMessage(),
            "time": _now(record),
            "logger": record.name,
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(document).decode()


def _now(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def configure(level: str, form: str, *, debug: bool) -> None:
    """Set up the root logger; may be called again after a reload."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSON() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else _LEVELS[level])
    logging.getLogger("asyncio").setLevel(logging.DEBUG if debug else logging.WARNING)
