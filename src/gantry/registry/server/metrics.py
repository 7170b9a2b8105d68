"""Counters for Prometheus, in its text format (version 0.0.4)."""

import os
from collections.abc import Iterable

from aiohttp import web

from gantry import __version__
from gantry.registry.server.collect import Report
from gantry.registry.server.events import Event

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Histogram:
    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.total += seconds
        for index, bound in enumerate(_BUCKETS):
            if seconds <= bound:
                self.counts[index] += 1
                return
        self.counts[-1] += 1


class Metrics:
    """What `/metrics` shows. No label carries a name that a client chooses, so the number of series is bounded."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, _Histogram] = {}
        self._events: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self._collected = Report()
        self._collections = 0

    def time(self, kind: str, method: str, status: int, seconds: float) -> None:
        """One answer; an `app.Timing`."""
        method = method if method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE") else "other"
        key = (kind or "none", method, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._durations.setdefault(key[0], _Histogram()).add(seconds)

    def observe(self, event: Event) -> None:
        """One event; an `events.Observer`."""
        self._events[event.action] = self._events.get(event.action, 0) + 1
        if event.action in ("pull", "push"):
            self._bytes[event.action] = self._bytes.get(event.action, 0) + event.size

    def collected(self, report: Report) -> None:
        """One run of the collector."""
        self._collections += 1
        previous = self._collected
        for name in ("tags", "manifests", "links", "blobs", "bytes"):
            setattr(report, name, getattr(report, name) + getattr(previous, name))
        self._collected = report

    async def page(self, _: web.BaseRequest) -> web.Response:
        return web.Response(text=self.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def text(self) -> str:
        lines: list[str] = []

        def family(name: str, kind: str, help_text: str, samples: Iterable[tuple[str, float]]) -> None:
            full = f"gantry_registry_{name}"
            lines.append(f"# HELP {full} {help_text}")
            lines.append(f"# TYPE {full} {kind}")
            lines.extend(f"{full}{labels} {value:g}" if value != int(value) else f"{full}{labels} {int(value)}"
                         for labels, value in samples)  # fmt: skip

        family("build_info", "gauge", "The version that runs.", [(f'{{version="{__version__}"}}', 1)])
        family(
            "http_requests_total", "counter", "Answers by kind of target, method and status.",
            [(f'{{handler="{kind}",method="{method}",code="{code}"}}', count)
             for (kind, method, code), count in sorted(self._requests.items())],
        )  # fmt: skip
        lines += self._histograms()
        family("events_total", "counter", "What was done: pull, push, mount, delete, denied.",
               [(f'{{action="{action}"}}', count) for action, count in sorted(self._events.items())])  # fmt: skip
        family("transferred_bytes_total", "counter", "Bytes of blobs and manifests pulled and pushed.",
               [(f'{{action="{action}"}}', count) for action, count in sorted(self._bytes.items())])  # fmt: skip
        report = self._collected
        family("collections_total", "counter", "Runs of the garbage collector.", [("", self._collections)])
        family("collection_seconds", "gauge", "Duration of the last run.", [("", report.seconds)])
        removed = {"tags": report.tags, "manifests": report.manifests, "links": report.links, "blobs": report.blobs}
        family("collected_total", "counter", "What the garbage collector removed.",
               [(f'{{kind="{name}"}}', count) for name, count in removed.items()])  # fmt: skip
        family("collected_bytes_total", "counter", "Bytes that the garbage collector freed.", [("", report.bytes)])
        family("storage_bytes", "gauge", "Bytes of all blobs after the last collection.", [("", report.kept_bytes)])
        family("storage_blobs", "gauge", "Blobs after the last collection.", [("", report.kept_blobs)])
        family("resident_memory_bytes", "gauge", "Resident memory of the process.", [("", _resident())])
        return "\n".join(lines) + "\n"

    def _histograms(self) -> list[str]:
        name = "gantry_registry_http_request_duration_seconds"
        lines = [f"# HELP {name} Time to answer, by kind of target.", f"# TYPE {name} histogram"]
        for kind, histogram in sorted(self._durations.items()):
            running = 0
            for bound, count in zip((*_BUCKETS, float("inf")), histogram.counts, strict=True):
                running += count
                shown = "+Inf" if bound == float("inf") else f"{bound:g}"
                lines.append(f'{name}_bucket{{handler="{kind}",le="{shown}"}} {running}')
            lines.append(f'{name}_sum{{handler="{kind}"}} {histogram.total:.6f}')
            lines.append(f'{name}_count{{handler="{kind}"}} {running}')
        return lines


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - a file of the kernel's
        return int(file.read().split()[1]) * _PAGE
