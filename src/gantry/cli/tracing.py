"""Where a start spent its time: the daemon's traces as text."""

from __future__ import annotations

from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from gantry.cli.command import Context


def show_latest(ctx: Context, container: str) -> None:
    """Print the trace of one container's start on standard error."""
    try:
        traces = ctx.client.get("/_gantry/traces")
    except ClientError as error:
        ctx.warn(f"GANTRY_TRACE: {error.message}")
        return
    for trace in reversed(traces or ()):
        if container in trace["name"] or container[:12] in trace["name"]:
            ctx.warn(render(trace))
            return
    ctx.warn("GANTRY_TRACE: the daemon has no trace of this start")


def render(trace: Mapping[str, Any]) -> str:
    """One trace: a line per span, in order of their beginning, indented by depth."""
    lines = [f"{trace['name']}: {trace['duration_us'] / 1000:.1f} ms"]
    for span in sorted(trace["spans"], key=lambda span: (span["start_us"], span["depth"])):
        name = "  " * (span["depth"] + 1) + span["name"]
        lines.append(f"{name:<32} {span['duration_us'] / 1000:8.2f} ms  at {span['start_us'] / 1000:.2f}")
    return "\n".join(lines)
