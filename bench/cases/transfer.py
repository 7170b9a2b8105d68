"""Images in and out: archives, and a registry."""

from bench.engines import Engine
from bench.model import Case, Metric, Scale, Skip, Surroundings, Target
from bench.registry import Registry

_TITLES = {
    "debian": "one layer of 180 MB in 9,500 files",
    "layers": "40 small layers",
    "gigabyte": "one layer of 1 GB",
    "files": "one layer of 50,000 small files",
}
_SCALES = {
    "debian": frozenset((Scale.MAIN, Scale.FULL)),
    "layers": frozenset(Scale),
    "gigabyte": frozenset((Scale.FULL,)),
    "files": frozenset((Scale.FULL,)),
}


class _Transfer(Case):
    group = "transfer"
    rounds = (1, 4, 6)
    verb = ""

    def __init__(self, image: str, *targets: Target) -> None:
        self.name = f"{self.verb}-{image}"
        self.title = f"{self.verb} of {_TITLES[image]}"
        self.metrics = (Metric(targets=targets),)
        self.scales = _SCALES[image]
        self.image = image

    def reference(self) -> str:
        return f"docker.io/bench/{self.image}"

    def forget(self, engine: Engine) -> None:
        engine.run(f"rmi -f {self.reference()}", check=False)


class Load(_Transfer):
    """From an archive to a container that has run, on an engine that does not have the image."""

    verb = "load"
    staged: dict[str, str]

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        archive = here.images.archive(self.image)
        self.staged = getattr(self, "staged", {}) | {engine.name: engine.shell.stage(archive, archive.name)}

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        self.forget(engine)
        loading = engine.time(f"load -i {self.staged[engine.name]}")
        return {"": loading + engine.time(f"run --rm --network none {self.reference()} /bin/true")}

    def finish(self, engine: Engine, here: Surroundings) -> None:
        self.forget(engine)
        if staged := self.staged.pop(engine.name, ""):
            engine.shell.run(f"rm -f {staged}")
        if not self.staged:
            here.images.forget(self.image)


class Save(_Transfer):
    verb = "save"

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        engine.load(here.images.archive(self.image))

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        return {"": engine.time(f"save {self.reference()}")}

    def finish(self, engine: Engine, here: Surroundings) -> None:
        self.forget(engine)


class Push(_Transfer):
    """To a registry that has nothing of it: every round is a repository of its own and a registry started anew."""

    verb = "push"
    warm_up = 0

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        engine.load(here.images.archive(self.image))
        with Registry(here) as registry:
            self._push(engine, registry, trial=True)

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        with Registry(here) as registry:
            return {"": self._push(engine, registry)}

    def _push(self, engine: Engine, registry: Registry, *, trial: bool = False) -> float:
        remote = f"{registry.host(engine)}/bench/{self.image}"
        engine.run(f"tag {self.reference()} {remote}")
        try:
            done = engine.run(f"push {registry.plain(engine)} {remote}", check=not trial)
        finally:
            engine.run(f"rmi {remote}", check=False)
        if done.status:
            raise Skip((done.errors or done.output).strip()[-300:])
        return done.seconds * 1000

    def finish(self, engine: Engine, here: Surroundings) -> None:
        self.forget(engine)


class Pull(_Transfer):
    """From a registry nearby, on an engine that does not have the image; ready to run when it ends."""

    verb = "pull"
    warm_up = 0
    _registry: Registry | None = None

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        if self._registry is None:
            registry = Registry(here)
            registry.fill(here.images.archive(self.image), f"bench/{self.image}")
            self._registry = registry
        done = engine.run(self._command(engine), check=False)
        if done.status:
            raise Skip((done.errors or done.output).strip()[-300:])

    def _command(self, engine: Engine) -> str:
        assert self._registry is not None
        return f"pull {self._registry.plain(engine)} {self._registry.host(engine)}/bench/{self.image}"

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        self._drop(engine)
        return {"": engine.time(self._command(engine))}

    def _drop(self, engine: Engine) -> None:
        if self._registry is not None:
            engine.run(f"rmi -f {self._registry.host(engine)}/bench/{self.image}", check=False)

    def finish(self, engine: Engine, here: Surroundings) -> None:
        self._drop(engine)
        if engine is [one for one in here.contestants if one.kind in self.kinds and one.name == one.kind][-1]:
            if self._registry is not None:
                self._registry.close()
            self._registry = None


CASES = (
    *(Load(image, *([Target(0.8, "docker", "2")] if image == "debian" else [])) for image in _TITLES),
    *(Save(image) for image in _TITLES),
    *(Push(image) for image in _TITLES),
    *(Pull(image) for image in _TITLES),
)
