"""A Dockerfile's stages, and which of them a build needs."""

from collections.abc import Sequence

import msgspec

from gantry.build.errors import DockerfileError
from gantry.build.expand import expand
from gantry.build.instructions import Add, Arg, Copy, Dockerfile, From, Instruction, Run
from gantry.build.run_mounts import origin_of
from gantry.build.variables import Arguments


class Stage(msgspec.Struct):
    """`base` is the expanded name of an image, `base_stage` the number of an earlier stage, -1 for none."""

    number: int
    name: str
    head: From
    instructions: list[Instruction]
    base: str = ""
    base_stage: int = -1

    @property
    def shown(self) -> str:
        return self.name or f"stage-{self.number}"


class Stages:
    def __init__(self, dockerfile: Dockerfile, arguments: Arguments) -> None:
        """Raises DockerfileError where a name is blank or an instruction stands before the first FROM."""
        self.globals: list[Arg] = []
        self.all: list[Stage] = []
        for instruction in dockerfile.instructions:
            if isinstance(instruction, From):
                self.all.append(Stage(len(self.all), instruction.name, instruction, []))
            elif self.all:
                self.all[-1].instructions.append(instruction)
            elif isinstance(instruction, Arg):
                self.globals.append(instruction)
            else:
                raise DockerfileError("no build stage in current context", line=instruction.start, numbered=False)
        if not self.all:
            raise DockerfileError("No image was generated. Is your Dockerfile empty?", numbered=False)
        for meta in self.globals:
            for name, default in meta.pairs:
                scope = arguments.for_from()
                value = None if default is None else expand(default, scope, dockerfile.escape, meta.start)
                arguments.declare_global(name, value)
        scope = arguments.for_from()
        for stage in self.all:
            head = stage.head
            stage.base = expand(head.image, scope, dockerfile.escape, head.start)
            if not stage.base:
                raise DockerfileError(f"base name ({head.image}) should not be blank", line=head.start, numbered=False)
            stage.base_stage = self.by_name(stage.base, stage.number)

    def by_name(self, name: str, before: int) -> int:
        """The number of the last stage of that name above stage `before`, -1 for none."""
        lowered = name.lower()
        return next((s.number for s in reversed(self.all[:before]) if s.name and s.name == lowered), -1)

    def source(self, name: str, before: int, line: int) -> int:
        """What `--from` means: the number of a stage, or -1 for an image. Raises DockerfileError."""
        if name.isascii() and name.isdigit():
            if len(name) > 6 or int(name) >= before:
                raise DockerfileError(f"invalid from flag value {name}: index out of bounds", line=line, numbered=False)
            return int(name)
        return self.by_name(name, before)

    def target(self, name: str) -> int:
        """The stage to build: the last one where `name` is ""."""
        if not name:
            return len(self.all) - 1
        found = self.by_name(name, len(self.all))
        if found < 0 and name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(self.all):
            found = int(name)
        if found < 0:
            raise DockerfileError(f'target stage "{name}" could not be found', numbered=False)
        return found

    def needed(self, target: int) -> Sequence[int]:
        """The numbers of all stages that `target` needs, in the file's order."""
        found: set[int] = set()
        waiting = [target]
        while waiting:
            number = waiting.pop()
            if number in found:
                continue
            found.add(number)
            stage = self.all[number]
            if stage.base_stage >= 0:
                waiting.append(stage.base_stage)
            for each in stage.instructions:
                waiting += [source for name in origins(each) if (source := self.source(name, number, each.start)) >= 0]
        return sorted(found)


def origins(each: Instruction) -> list[str]:
    """The names of stages, images or contexts that an instruction reads, as they are written."""
    if isinstance(each, Copy) and not isinstance(each, Add) and each.source:
        return [each.source]
    if isinstance(each, Run):
        return list(filter(None, map(origin_of, each.mounts)))
    return []
