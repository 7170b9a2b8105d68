"""From a parsed Dockerfile to the graph that the solver runs, and to the list of steps that a user is shown."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from gantry.build import instructions as ins
from gantry.build.errors import DockerfileError, StepFailed
from gantry.build.expand import expand
from gantry.build.metadata import SourceOp
from gantry.build.parser import parse_trigger
from gantry.build.solver import Vertex
from gantry.build.stage_builder import BuildVertex, Origin, StageBuilder, Tools
from gantry.build.stages import Stage, Stages, origins
from gantry.build.state import BuildState
from gantry.errors import GantryError
from gantry.model.container import ContainerConfig
from gantry.model.platform import Platform

SCRATCH = "scratch"
Resolve = Callable[[str, Platform | None], Awaitable[BuildState]]


class Step(msgspec.Struct):
    """One numbered line of the progress. `vertexes` are its own and, for FROM, those of the base's triggers.

    `on_stage` says that the first vertex is the end of an earlier stage.
    """

    text: str
    vertexes: list[BuildVertex]
    start: int = 0
    end: int = 0
    triggers: int = 0
    on_stage: bool = False
    ends_stage: bool = False


class Plan(msgspec.Struct):
    target: BuildVertex
    steps: list[Step]
    config: ContainerConfig


class Planner:
    """Plans one build; `resolve` finds an image by name, or fetches it."""

    def __init__(self, tools: Tools, stages: Stages, resolve: Resolve) -> None:
        self._tools = tools
        self._stages = stages
        self._resolve = resolve
        self._found: dict[tuple[str, Platform | None], BuildState] = {}
        self._built: dict[int, StageBuilder] = {}
        self._steps: dict[int, list[Step]] = {}
        self._images: dict[str, BuildVertex] = {}

    async def plan(self) -> Plan:
        """Raises DockerfileError, and what finding the images raises."""
        target = self._stages.target(self._tools.options.target)
        needed = self._stages.needed(target)
        await self._prefetch([self._stages.all[number] for number in needed])
        for number in needed:
            await self._stage(number)
        builder = self._built[target]
        steps = [Step(each.text, [], each.start, each.end) for each in self._stages.globals]
        for number in sorted(self._steps):
            if number != target:
                steps += self._steps[number]
        steps += self._steps[target]
        for key, value in sorted(self._tools.options.labels.items()):
            label = ins.Label(text=f"LABEL {key}={value}", pairs=((key, value),), expand=False)
            steps[-1].ends_stage = False
            steps.append(Step(label.text, [builder.add(label, f"[label] {label.text}", {})], ends_stage=True))
        return Plan(builder.vertex, steps, builder.config)

    # ---------------------------------------------------------------------------------------- images

    def _platform(self, stage: Stage) -> Platform | None:
        text = stage.head.platform
        if not text:
            return self._tools.options.platform
        value = expand(text, self._tools.arguments.for_from(), self._tools.escape, stage.head.start)
        try:
            return Platform.parse(value)
        except GantryError as error:
            raise DockerfileError(
                f"failed to parse platform {value}: {error.message}", line=stage.head.start, numbered=False
            ) from error

    async def _prefetch(self, stages: list[Stage]) -> None:
        """Find all base images at once: where they must be fetched, they are fetched side by side."""
        wanted = dict.fromkeys(
            (name, self._platform(stage)) for stage in stages if (name := self._base(stage)) and name != SCRATCH
        )
        states = await asyncio.gather(*(self._resolve(name, platform) for name, platform in wanted))
        self._found.update(zip(wanted, states, strict=True))

    def _base(self, stage: Stage) -> str:
        """The name of the image below a stage, "" where something else is."""
        named = self._tools.contexts.get(stage.base)
        if isinstance(named, Path):
            return ""
        return named or ("" if stage.base_stage >= 0 else stage.base)

    async def _image(self, name: str) -> BuildVertex:
        """The vertex of an image that `--from` names."""
        if name not in self._images:
            try:
                state = await self._resolve(name, self._tools.options.platform)
            except GantryError as error:
                raise StepFailed(f"invalid from flag value {name}: {error.message}") from error
            self._images[name] = Vertex(SourceOp(state), (), f"FROM {name}")
        return self._images[name]

    # ---------------------------------------------------------------------------------------- stages

    async def _stage(self, number: int) -> StageBuilder:
        if number in self._built:
            return self._built[number]
        stage = self._stages.all[number]
        names = (stage.name, str(number))
        triggers: list[ins.Instruction] = []
        count = len(stage.instructions) + 1
        several = len(self._stages.all) > 1

        def name(position: int, text: str) -> str:
            return f"[{stage.shown + ' ' if several else ''}{position}/{count}] {text}"

        named, base = self._tools.contexts.get(stage.base), self._base(stage)
        if stage.base_stage >= 0 and named is None:
            below = await self._stage(stage.base_stage)
            builder = StageBuilder(
                self._tools, below.vertex, BuildState(config=below.config, author=below.author), names
            )
            head = Step(stage.head.text, [below.vertex], stage.head.start, stage.head.end, on_stage=True)
        else:
            if base in ("", SCRATCH):
                state = BuildState(platform=self._platform(stage) or Platform.host())
            else:
                state = self._found[base, self._platform(stage)]
            vertex = Vertex(SourceOp(state), (), name(1, f"FROM {stage.base}"))
            builder = StageBuilder(self._tools, vertex, state, names)
            if isinstance(named, Path):
                vertex = builder.add_tree(named, f"[context {stage.base}] load from the client")
            head = Step(stage.head.text, [vertex], stage.head.start, stage.head.end)
        triggers = [parse_trigger(text) for text in builder.take_triggers()]
        head.triggers = len(triggers)
        for trigger in triggers:
            head.vertexes.append(await self._instruction(stage, builder, trigger, name(1, f"ONBUILD {trigger.text}")))
        steps = [head]
        for position, each in enumerate(stage.instructions, 2):
            vertex = await self._instruction(stage, builder, each, name(position, each.text))
            steps.append(Step(each.text, [vertex], each.start, each.end))
        steps[-1].ends_stage = True
        self._built[number] = builder
        self._steps[number] = steps
        return builder

    async def _instruction(self, stage: Stage, builder: StageBuilder, each: ins.Instruction, name: str) -> BuildVertex:
        return builder.add(each, name, {origin: await self._origin(stage, each, origin) for origin in origins(each)})

    async def _origin(self, stage: Stage, each: ins.Instruction, name: str) -> Origin:
        """What a name after `from` means: a named context comes before a stage, a stage before an image."""
        named = self._tools.contexts.get(name)
        if named is not None:
            return named if isinstance(named, Path) else await self._image(named)
        found = self._stages.source(name, stage.number, each.start)
        return (await self._stage(found)).vertex if found >= 0 else await self._image(name)
