"""Gantry beside Docker, Podman and the bare OCI runtime, interleaved, in one run.

Without a CASE the main cases run, which takes at most ten minutes; `all` runs everything. A CASE is a case's or a
group's name (--list shows them). Errors of a case are reported, the others go on, and the exit status is 1.
"""

import argparse
import datetime as dt
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from bench import machine, page, report
from bench.cases import CASES, choose
from bench.images import Images
from bench.measure import Result, measure
from bench.model import Scale, Surroundings
from bench.peers import KINDS, Contestants

_BUDGETS = (2.0, 9.0, 240.0)
"""Seconds that one case may take beyond three rounds, by scale."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--peers", default=",".join(KINDS), help="of docker,podman,crun; '' for Gantry alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table for a document")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", action="store_true", help="a smoke run of small cases, within a minute")
    scale.add_argument("--full", action="store_true", help="the whole sizes: 1 GB, 500 containers, 1,000 cycles")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    options = parser.parse_args()
    if options.list:
        for case in CASES:
            print(f"{case.group:<10} {case.name:<22} {case.title}")
        return 0
    peers = tuple(name for name in options.peers.split(",") if name)
    if unknown := set(peers) - set(KINDS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    size = Scale.QUICK if options.quick else Scale.FULL if options.full else Scale.MAIN
    try:
        cases = choose(options.cases, size)
    except KeyError as error:
        parser.error(f"no such case: {error.args[0]} (--list shows them)")
    if os.geteuid():
        parser.error("containers need root")
    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory(prefix="gb-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        results, facts = _run(Path(name), cases, peers, size)
    print(report.table(results))
    if options.json:
        report.write_json(options.json, results, facts)
    if options.html:
        page.write(options.html, results, facts)
    if options.markdown:
        options.markdown.write_text(report.markdown(results))
    return 130 if "interrupted" in facts else 1 if any(result.errors for result in results) else 0


def _run(scratch: Path, cases: list[Any], peers: tuple[str, ...], size: Scale) -> tuple[list[Result], dict[str, Any]]:
    facts: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "scale": size.name.lower(),
        "machine": machine.describe(),
    }
    images = Images(scratch, size)
    contestants = Contestants(scratch, images.root(), peers)
    results: list[Result] = []
    began = time.monotonic()
    try:
        facts["engines"] = {engine.name: engine.describe() for engine in contestants.engines}
        facts["absent"] = contestants.absent
        for key, value in (facts["machine"] | facts["engines"] | contestants.absent).items():
            print(f"# {key}: {', '.join(value.values()) if isinstance(value, dict) else value}")
        here = Surroundings(size, scratch, images, contestants.engines, contestants.tool)
        for case in cases:
            results.append(measure(case, here, _BUDGETS[size], _tell))
            _tell("")
            print(report.brief(results[-1]), flush=True)
    except KeyboardInterrupt:
        facts["interrupted"] = True  # what was measured is reported all the same
    finally:
        contestants.close()
    facts["seconds"] = round(time.monotonic() - began, 1)
    return results, facts


def _tell(text: str) -> None:
    """What happens now, on a terminal only, in one line."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text[:100]}")
        sys.stderr.flush()


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
