"""The report as one HTML page without anything from outside: plots are SVG in the page."""

from html import escape
from pathlib import Path
from typing import Any

from bench.measure import Result
from bench.report import targets
from bench.summary import Row, rows, shown

_COLOURS = {
    "gantry": "#0b7a75",
    "gantry+docker": "#5fb3ae",
    "docker": "#2f6fde",
    "podman": "#8f4fbf",
    "crun": "#8a8f98",
}
_OTHER = "#b0762a"
_LEGEND = (
    "medians; the dots are single samples, the thin line spans the quartiles; x is how many times ours, round by round."
)
_WIDTH, _LEFT, _RIGHT, _ROW = 760, 120, 90, 26

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --line: #d8dde6; --paper: #fff; --card: #f6f8fa;
        --good: #16794a; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #3a4252; --paper: #12151c;
        --card: #1a1f29; --good: #4cc38a; --bad: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       max-width: 860px; padding: 24px; }
h1 { margin: 0 0 4px; } h2 { margin: 36px 0 8px; border-bottom: 1px solid var(--line); padding-bottom: 4px; }
h3 { margin: 20px 0 2px; font-size: 15px; } p, dl { margin: 4px 0; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: 14px; } td, th { text-align: left; padding: 4px 8px;
       border-bottom: 1px solid var(--line); } .n { text-align: right; font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 16px; } dd { margin: 0; color: var(--ink); }
.card { background: var(--card); border-radius: 8px; padding: 4px 16px 12px; margin: 12px 0; }
.met { color: var(--good); } .missed { color: var(--bad); font-weight: 600; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } svg .axis { stroke: var(--line); }
"""


def write(path: Path, results: list[Result], facts: dict[str, Any]) -> None:
    path.write_text(page(results, facts))


def page(results: list[Result], facts: dict[str, Any]) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Gantry beside its peers</title><style>{_STYLE}</style>",
        f"<h1>Gantry beside its peers</h1><p>{escape(str(facts.get('date', '')))} · {_LEGEND}</p>",
        _facts("Machine", facts.get("machine", {})),
        _facts("Engines", {k: ", ".join(v.values()) for k, v in facts.get("engines", {}).items()}),
        _summary(results),
    ]
    for group in dict.fromkeys(result.case.group for result in results):
        parts.append(f"<h2>{escape(group)}</h2>")
        parts += [_case(result) for result in results if result.case.group == group]
    return "\n".join(parts) + "\n</html>\n"


def _facts(title: str, facts: dict[str, str]) -> str:
    entries = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    return f"<div class=card><h3>{title}</h3><dl>{entries}</dl></div>"


def _summary(results: list[Result]) -> str:
    lines = []
    for row in (row for result in results for row in rows(result)):
        limit = "at most" if row.metric.better == "less" else "at least"
        for verdict in row.verdicts:
            state = "met" if verdict.met else "missed"
            unit = "" if verdict.target.against else f" {row.metric.unit}"
            lines.append(
                f"<tr><td>{escape(row.title)}</td><td>{limit} {escape(str(verdict.target))}{escape(unit)}</td>"
                f"<td class=n>{shown(verdict.value)}</td><td class={state}>{state}</td></tr>"
            )
    if not lines:
        return ""
    return f"<h2>Targets</h2><table><tr><th>case<th>target<th class=n>measured<th></tr>{''.join(lines)}</table>"


def _case(result: Result) -> str:
    parts = [f"<div class=card><h3>{escape(result.case.name)}</h3><p>{escape(result.case.title)}</p>"]
    for row in rows(result):
        name = f"{row.metric.name}, " if row.metric.name else ""
        better = "less is better" if row.metric.better == "less" else "more is better"
        parts.append(f"<p>{escape(name)}{escape(row.metric.unit or 'count')} ({better})</p>{plot(row)}")
        if row.verdicts:
            kind = "met" if all(verdict.met for verdict in row.verdicts) else "missed"
            parts.append(f"<p class={kind}>{escape(targets(row))}</p>")
    for what, reasons in (("skipped", result.skipped), ("failed", result.errors)):
        parts += [f"<p>{escape(name)} {what}: {escape(reason)}</p>" for name, reason in reasons.items()]
    return "".join(parts) + "</div>"


def plot(row: Row) -> str:
    """A bar to each median, the quartiles, every sample, and our ratio to the others."""
    highest = max(max(taken) for taken in row.samples.values()) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / highest
    height = _ROW * len(row.values) + 6
    shapes = [f'<line class="axis" x1="{_LEFT}" x2="{_LEFT}" y1="0" y2="{height}" />']
    for index, (name, spread) in enumerate(row.values.items()):
        top = index * _ROW + 4
        middle = top + _ROW / 2 - 2
        colour = _COLOURS.get(name, _OTHER)
        width = max(spread.median * scale, 1)
        ratio = f"  x {shown(1 / row.ratios[name].median)}" if name in row.ratios and row.ratios[name].median else ""
        shapes.append(
            f'<text x="{_LEFT - 8}" y="{middle + 4:.0f}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_ROW - 8}" rx="2" fill="{colour}" />'
            f'<line x1="{_LEFT + spread.low * scale:.1f}" x2="{_LEFT + spread.high * scale:.1f}" y1="{middle:.0f}" '
            f'y2="{middle:.0f}" stroke="currentColor" stroke-width="1.5" />'
        )
        shapes += [
            f'<circle cx="{_LEFT + value * scale:.1f}" cy="{middle:.0f}" r="2" fill="currentColor" opacity=".45" />'
            for value in row.samples[name]
        ]
        end = _LEFT + max(spread.median, spread.high, *row.samples[name]) * scale + 8
        shapes.append(
            f'<text x="{end:.0f}" y="{middle + 4:.0f}">{shown(spread.median)}<tspan class="soft">{ratio}</tspan></text>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(shapes)}</svg>'
