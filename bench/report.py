"""The report as text and as JSON."""

import json
from pathlib import Path
from typing import Any

from bench.measure import Result
from bench.summary import OURS, Row, rows, shown


def table(results: list[Result]) -> str:
    """One line for each metric: medians with the quartiles' distance, ratios, targets."""
    names = list(dict.fromkeys(name for result in results for row in rows(result) for name in row.values))
    head = ["case", "unit", *names, "ratio to", "targets"]
    lines = [head]
    for result in results:
        lines += [_line(row, names) for row in rows(result)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "-" * max(map(len, text)))
    for result in results:
        text += [f"{result.case.name}: {name} skipped: {reason}" for name, reason in result.skipped.items()]
    for result in results:
        text += [f"{result.case.name}: {name} FAILED: {reason}" for name, reason in result.errors.items()]
    return "\n".join(text)


def brief(result: Result) -> str:
    """One case in a line or a few, as soon as it is done."""
    lines = [
        f"{row.title}: "
        + ", ".join(f"{name} {shown(s.median)}" for name, s in row.values.items())
        + f" {row.metric.unit}"
        for row in rows(result)
    ]
    lines += [f"{result.case.name}: {name} skipped: {reason}" for name, reason in result.skipped.items()]
    lines += [f"{result.case.name}: {name} FAILED: {reason}" for name, reason in result.errors.items()]
    return "\n".join(lines)


def _line(row: Row, names: list[str]) -> list[str]:
    cells = []
    for name in names:
        spread = row.values.get(name)
        cells.append(f"{shown(spread.median)} ±{shown((spread.high - spread.low) / 2)}" if spread else "")
    ratios = ", ".join(f"{name} {shown(ratio.median)}" for name, ratio in row.ratios.items())
    return [row.title, row.metric.unit, *cells, ratios, targets(row)]


def targets(row: Row) -> str:
    limit = "<=" if row.metric.better == "less" else ">="
    return ", ".join(
        f"{limit} {verdict.target}: {'met' if verdict.met else f'MISSED ({shown(verdict.value)})'}"
        for verdict in row.verdicts
    )


def markdown(results: list[Result]) -> str:
    """The table for docs/benchmarks.md."""
    names = list(dict.fromkeys(name for result in results for row in rows(result) for name in row.values))
    head = ["case", "unit", *names, "ratio of gantry to", "targets"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_line(row, names)) + " |" for result in results for row in rows(result)]
    return "\n".join(lines) + "\n"


def document(results: list[Result], facts: dict[str, Any]) -> dict[str, Any]:
    """All that was measured, samples included."""
    cases = [
        {
            "case": result.case.name, "group": result.case.group, "title": result.case.title,
            "seconds": round(result.seconds, 1), "skipped": result.skipped, "errors": result.errors,
            "metrics": [_metric(row) for row in rows(result)],
        }
        for result in results
    ]  # fmt: skip
    return {**facts, "cases": cases}


def _metric(row: Row) -> dict[str, Any]:
    return {
        "metric": row.metric.name, "unit": row.metric.unit, "better": row.metric.better,
        "contestants": {
            name: {"median": s.median, "low": s.low, "high": s.high, "samples": row.samples[name]}
            for name, s in row.values.items()
        },
        f"ratios of {OURS} to": {
            name: {"median": s.median, "low": s.low, "high": s.high} for name, s in row.ratios.items()
        },
        "targets": [{"target": str(v.target), "issue": v.target.issue, "value": v.value, "met": v.met}
                    for v in row.verdicts],
    }  # fmt: skip


def write_json(path: Path, results: list[Result], facts: dict[str, Any]) -> None:
    path.write_text(json.dumps(document(results, facts), indent=1) + "\n")
