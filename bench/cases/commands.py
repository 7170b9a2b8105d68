"""The command line alone: short questions to a daemon that has one container."""

from bench.cases.api import create, each
from bench.engines import LABEL, Engine
from bench.model import Case, Metric, Surroundings, Target

_NAME = "gantry-bench-command"


class Question(Case):
    group = "command"
    other_clients = True
    rounds = (1, 20, 50)

    def __init__(self, name: str, title: str, command: str, *targets: Target) -> None:
        self.name = name
        self.title = title
        self.metrics = (Metric(targets=targets),)
        self._command = command

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        if engine.name == engine.kind:
            engine.run(f"create --name {_NAME} --label {LABEL} {engine.image} true")

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        return {"": engine.time(self._command)}

    def finish(self, engine: Engine, here: Surroundings) -> None:
        if engine.name == engine.kind:
            engine.remove(_NAME)


class Crowded(Question):
    """Beside many stopped containers, with which the case leaves the machine as it found it."""

    kinds = frozenset(("gantry", "docker"))

    def __init__(self) -> None:
        super().__init__("ps-500", "ps -a with 500 containers", "ps -a", Target(1.0, "docker", "3"))
        self._made: dict[str, list[str]] = {}

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        if engine.name == engine.kind:
            self._made[engine.name] = create(engine, here.scale.pick(5, 500, 500))

    def finish(self, engine: Engine, here: Surroundings) -> None:
        each(engine, "DELETE", "/containers/ID?force=1", self._made.pop(engine.name, []))


class Help(Question):
    """Without a daemon; the interpreter's own start is the floor."""

    def __init__(self) -> None:
        super().__init__("help", "--help: the start of the command line", "--help")
        self.metrics = (Metric(targets=(Target(30, "", "7"),)), Metric("python3 -c pass"))

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        values = super().sample(engine, here)
        if engine.name == "gantry":
            values["python3 -c pass"] = engine.shell.run("/usr/bin/python3 -c pass").seconds * 1000
        return values


CASES = (
    Question("ps", "ps -a with one container", "ps -a", Target(2.5, "docker", "2"), Target(1.5, "docker", "7")),
    Crowded(),
    Question("version", "version", "version"),
    Question("inspect", "inspect of one container", f"inspect {_NAME}"),
    Help(),
)
