"""Steps that change no files: ENV, LABEL, CMD and their like; and the base image itself."""

from collections.abc import Sequence

import msgspec

from gantry.build.progress import StepLog
from gantry.build.state import BuildState, key_of
from gantry.build.workspace import Definition, Workspace


def config_text(definition: Definition) -> str:
    """The configuration after a step as part of its key."""
    return msgspec.json.encode(definition.config, order="sorted").decode()


class SourceOp:
    """A base image, already found, or `scratch`."""

    shareable = True

    def __init__(self, state: BuildState) -> None:
        self.state = state

    def cache_key(self, inputs: Sequence[BuildState]) -> str:  # noqa: ARG002
        return ""

    async def content_key(self, inputs: Sequence[BuildState]) -> str:  # noqa: ARG002
        return ""

    async def run(self, inputs: Sequence[BuildState], log: StepLog) -> BuildState:  # noqa: ARG002
        return self.state


class MetadataOp:
    """A new configuration on the same files."""

    shareable = True

    def __init__(self, workspace: Workspace, definition: Definition) -> None:
        self._workspace = workspace
        self._definition = definition

    def cache_key(self, inputs: Sequence[BuildState]) -> str:
        made = self._definition
        return key_of("metadata", inputs[0].identity, made.created_by, made.author, config_text(made))

    async def content_key(self, inputs: Sequence[BuildState]) -> str:  # noqa: ARG002
        return ""

    async def run(self, inputs: Sequence[BuildState], log: StepLog) -> BuildState:  # noqa: ARG002
        return await self._workspace.image(inputs[0], self._definition)
