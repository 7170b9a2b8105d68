"""scripts/differential [PATTERN…]: the same scenarios on a real Docker and on Gantry, and what differs."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from differential import engines
from differential.compare import Answer, Difference, differences
from differential.scenario import Scenario, load, load_meant
from differential.steps import Player


def compare(scenario: Scenario, peer: engines.Engine, gantry: engines.Engine) -> list[tuple[str, Difference]]:
    """Play a scenario on both engines at once; each difference with the step that shows it."""
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda engine: _played(engine, scenario), (peer, gantry))
    found: list[tuple[str, Difference]] = []
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        step = scenario.steps[number] if number < len(scenario.steps) else None
        if step is None or not step.quiet:
            shown = step.shown if step else "events"
            found += [(shown, each) for each in differences(left, right, values=bool(step and step.values))]
    if len(one) != len(other):
        found.append(("the scenario itself", Difference("answers", one[-1:], other[-1:])))
    return found


def _played(engine: engines.Engine, scenario: Scenario) -> list[Answer]:
    try:
        return Player(engine, scenario).play()
    except Exception as error:  # noqa: BLE001 - one engine's failure is a finding, not the run's end
        return [Answer({"failed": f"{engine.name}: {type(error).__name__}: {error}"})]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/differential", description=__doc__)
    parser.add_argument("patterns", nargs="*", help="names of scenarios, with * and ?; all where none is given")
    parser.add_argument("--list", action="store_true", help="print the scenarios' names")
    parser.add_argument("--verbose", action="store_true", help="also print the differences that are meant")
    parser.add_argument("--client", default="", help="the client on Gantry's side (default: the official one)")
    options = parser.parse_args()
    scenarios = [
        each
        for each in load()
        if not options.patterns or any(fnmatchcase(each.name, pattern) for pattern in options.patterns)
    ]
    if options.list:
        print(*(each.name for each in scenarios), sep="\n")
        return 0
    program = engines.newest_client()
    host, reason = engines.peer_host()
    if not program:
        reason = "there is no official docker client: scripts/setup --dev fetches one"
    if reason:
        print(f"skipped: {reason}")
        return 0
    directory = Path(tempfile.mkdtemp(prefix="dt-", dir="/var/tmp"))
    daemon, gantry = engines.start_gantry(directory, options.client or program)
    try:
        peer = engines.Engine("docker", program, host, directory / "config")
        gantry.image, gantry.rich = peer.image, peer.rich
        try:
            peer.prepare()
            gantry.prepare()
            return report(scenarios, peer, gantry, verbose=options.verbose)
        finally:
            peer.close()
            gantry.close()
    finally:
        daemon.clean()


def report(scenarios: list[Scenario], peer: engines.Engine, gantry: engines.Engine, *, verbose: bool) -> int:
    """Play them all; prints what differs, then the count. 1 where a difference is not meant."""
    meant = load_meant()
    used: Counter[int] = Counter()
    counts: Counter[str] = Counter()
    began = time.monotonic()
    for scenario in scenarios:
        worst = "same"
        for step, difference in compare(scenario, peer, gantry):
            text = f"{step}\n{difference}"
            reason = ""
            for number, entry in enumerate(meant):
                if entry.covers(scenario.name, text):
                    used[number] += 1
                    reason = entry.why
                    break
            worst = "different" if not reason or worst == "different" else "meant"
            if not reason or verbose:
                print(f"{'MEANT' if reason else 'DIFFERS'} {scenario.name}: {step}\n  {difference}", flush=True)
                if reason:
                    print(f"    because: {reason}")
        counts[worst] += 1
    print(
        f"{len(scenarios)} scenarios: {counts['same']} the same, {counts['meant']} with differences that are meant, "
        f"{counts['different']} different ({time.monotonic() - began:.0f} s)"
    )
    if len(scenarios) == len(load()):
        for number, entry in enumerate(meant):
            if not used[number]:
                print(f"meant, but not seen: {entry.scenario}: {entry.text.pattern}")
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
