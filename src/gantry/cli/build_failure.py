"""What `gantry build` says of a step that failed, and the shell that it opens in the state before it."""

from __future__ import annotations

import os
import subprocess
import sys

from gantry.cli.build_display import look_around, visible
from gantry.cli.terminal import is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gantry.cli.command import Context

_RULE = "-" * 20


def explain(ctx: Context, source: dict[str, Any], message: str, *, shown: bool, shell: bool) -> None:
    """Write the lines around the step to standard error, unless they were `shown`; with `shell`, open one."""
    if not shown:
        lines = [visible(line) for line in str(source.get("excerpt") or "").splitlines()]
        head = f"{visible(str(source.get('file')))}:{source.get('line')}"
        ctx.err.write("\n".join((head, _RULE, *lines, _RULE, *look_around(source)[1:])) + "\n")
    image = str(source.get("image") or "")
    if not shell or not image:
        return
    if not (is_terminal(0) and is_terminal(1)):
        ctx.err.write("--on-failure shell needs a terminal\n")
        return
    program = (source.get("shell") or ["/bin/sh"])[0]
    ctx.out.write(f"{message}\nA shell in the state before this step:\n")
    ctx.out.flush()
    subprocess.run(
        [sys.executable, "-m", "gantry.cli.main", "run", "-it", "--rm", "--entrypoint", program, image],
        env={**os.environ, "DOCKER_HOST": ctx.client.endpoint.url}, check=False,
    )  # fmt: skip
