"""WORKDIR: a directory that is made where it is missing."""

import os
from collections.abc import Sequence
from pathlib import Path

from gantry.aio import run_blocking
from gantry.build.copy_files import Rules, Target
from gantry.build.errors import StepFailed
from gantry.build.metadata import config_text
from gantry.build.progress import StepLog
from gantry.build.state import BuildState, key_of
from gantry.build.workspace import Definition, Workspace


class WorkdirOp:
    """`path` is absolute and clean. A link in it leads inside the image, never outside."""

    shareable = True

    def __init__(self, workspace: Workspace, path: str, definition: Definition) -> None:
        self._workspace = workspace
        self._path = path
        self._definition = definition

    def cache_key(self, inputs: Sequence[BuildState]) -> str:
        made = self._definition
        return key_of("workdir", inputs[0].identity, self._path, made.created_by, config_text(made))

    async def content_key(self, inputs: Sequence[BuildState]) -> str:  # noqa: ARG002
        return ""

    async def run(self, inputs: Sequence[BuildState], log: StepLog) -> BuildState:  # noqa: ARG002
        parent = inputs[0]
        async with self._workspace.active(parent) as active:
            async with self._workspace.mounted(active.mounts) as target:
                await run_blocking(self._make, target)
            layer, chain = await self._workspace.commit(active, parent)
            return await self._workspace.image(parent, self._definition, layer, chain)

    def _make(self, target: Path) -> None:
        root = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.close(Target(root).directory(self._path, Rules()))
        except StepFailed:
            raise StepFailed(f"Cannot mkdir: {self._path} is not a directory") from None
        finally:
            os.close(root)
