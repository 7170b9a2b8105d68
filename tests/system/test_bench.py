"""The benchmark's smoke run: every case once and small, on Gantry alone. Errors fail; times never do."""

import json
import subprocess
import sys
from pathlib import Path

from lib.daemon import PROJECT


def test_every_case_runs(scratch: Path) -> None:
    written = scratch / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--peers", "", "--json", written, "--html", scratch / "page.html"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    cases = json.loads(written.read_text())["cases"]
    measured = {case["group"] for case in cases if case["metrics"]}
    assert measured == {
        "start",
        "command",
        "life",
        "api",
        "transfer",
        "build",
        "streams",
        "network",
        "memory",
        "daemon",
    }
    assert "<svg" in (scratch / "page.html").read_text()
