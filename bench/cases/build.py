"""Builds: nothing changed, one file changed, eight stages from nothing, a large context."""

import io
import tarfile
from collections.abc import Iterator

from bench.engines import Engine
from bench.model import Case, Metric, Scale, Surroundings

_SIMPLE = """FROM docker.io/bench/busybox
RUN echo dependencies >/dependencies
WORKDIR /app
COPY stable /app/stable
COPY changing /app/changing
CMD ["true"]
"""
_STAGES = "\n".join(
    f"FROM docker.io/bench/busybox AS stage{number}\nRUN echo {number} >/out{number}\n" for number in range(8)
) + "FROM docker.io/bench/busybox\n" + "".join(
    f"COPY --from=stage{number} /out{number} /out{number}\n" for number in range(8)
)  # fmt: skip


class Build(Case):
    """The context lies where the engine's client is; Docker builds with what its client takes by default."""

    group = "build"
    metrics = (Metric(),)
    rounds = (1, 8, 15)

    def __init__(
        self, name: str, title: str, dockerfile: str, files: tuple[int, int, int], size: int, *,
        change: bool = False, options: str = "", scales: frozenset[Scale] = frozenset(Scale),
    ) -> None:  # fmt: skip
        self.name = f"build-{name}"
        self.title = f"build: {title}"
        self.scales = scales
        self._dockerfile = dockerfile
        self._files = files
        self._size = size
        self._change = change
        self._options = options
        self._turn = 0

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        archive = here.scratch / f"{self.name}.tar"
        with tarfile.open(archive, "w") as context:
            for name, content in self._context(here.scale.pick(*self._files)):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                context.addfile(entry, io.BytesIO(content))
        staged = engine.shell.stage(archive, archive.name)
        archive.unlink()
        engine.shell.run(f"mkdir {self._where(engine)} && tar -xf {staged} -C {self._where(engine)} && rm {staged}")

    def _where(self, engine: Engine) -> str:
        return f"{engine.shell.directory}/{self.name}"

    def _context(self, files: int) -> Iterator[tuple[str, bytes]]:
        yield "Dockerfile", self._dockerfile.encode()
        yield "changing", b"0\n"
        for number in range(files):
            yield f"stable/{number // 100}/{number}", (b"%d\n" % number).ljust(self._size, b"x")

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        if self._change:
            self._turn += 1
            engine.shell.run(f"echo {self._turn} >{self._where(engine)}/changing")
        return {"": engine.time(f"build {self._options} -t docker.io/bench/built {self._where(engine)}")}

    def finish(self, engine: Engine, here: Surroundings) -> None:
        engine.run("rmi -f docker.io/bench/built", check=False)
        engine.shell.run(f"rm -rf {self._where(engine)}")


CASES = (
    Build("cached", "nothing changed", _SIMPLE, (10, 10, 10), 1000),
    Build("changed", "one file changed, in the last step", _SIMPLE, (10, 10, 10), 1000, change=True),
    Build("cold", "eight stages, no cache", _STAGES, (0, 0, 0), 0, options="--no-cache"),
    Build("large", "a context of 4,000 files, 200 MB, nothing cached", _SIMPLE, (50, 4000, 4000), 50_000,
          options="--no-cache"),
)  # fmt: skip
