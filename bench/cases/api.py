"""The API under load: ping, list and inspect beside 500 stopped containers."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bench.engines import LABEL, Engine
from bench.load import generate
from bench.model import Case, Failed, Metric, Surroundings, Target

S = TypeVar("S")
T = TypeVar("T")
_CONNECTIONS = (1, 32)
_TARGETS = {"list": (Target(1.0, "docker", "7"),)}


def create(engine: Engine, count: int) -> list[str]:
    """Containers by the API, eight requests at a time; returns their ids."""
    body = json.dumps({"Image": engine.image, "Cmd": ["sleep", "3600"], "Labels": {LABEL: ""}}).encode()

    def make(share: int) -> list[str]:
        made = []
        with engine.connect() as connection:
            for _ in range(share):
                answer = connection.request("POST", "/containers/create", body)
                if answer.status != 201:
                    raise Failed(f"create: {answer.status} {answer.body[:200]!r}")
                made.append(json.loads(answer.body)["Id"])
        return made

    return [one for made in _eight(make, [len(range(i, count, 8)) for i in range(8)]) for one in made]


def each(engine: Engine, method: str, target: str, containers: list[str]) -> None:
    """One request for every container, eight at a time; `target` has ID in it."""

    def work(share: list[str]) -> None:
        with engine.connect() as connection:
            for container in share:
                answer = connection.request(method, target.replace("ID", container))
                if answer.status >= 300:
                    raise Failed(f"{method} {target}: {answer.status} {answer.body[:200]!r}")

    _eight(work, [containers[i::8] for i in range(8)])


def _eight(work: Callable[[S], T], shares: list[S]) -> list[T]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, shares))


class Requests(Case):
    name = "api"
    group = "api"
    title = "requests per second and latency with 500 containers, at 1 and 32 connections"
    kinds = frozenset(("gantry", "docker"))
    rounds = (1, 3, 5)
    metrics = tuple(
        metric
        for what in ("ping", "list", "inspect")
        for number in _CONNECTIONS
        for metric in (
            Metric(f"{what} {number}", "req/s", "more", _TARGETS.get(what, ())),
            Metric(f"{what} {number} p50"),
            Metric(f"{what} {number} p99"),
        )
    )

    def __init__(self) -> None:
        self._made: dict[str, list[str]] = {}

    def prepare(self, engine: Engine, here: Surroundings) -> None:
        self._made[engine.name] = create(engine, here.scale.pick(5, 500, 500))

    def sample(self, engine: Engine, here: Surroundings) -> dict[str, float]:
        values: dict[str, float] = {}
        seconds = here.scale.pick(0.1, 0.7, 2.0)
        paths = {
            "ping": "/_ping", "list": "/containers/json?all=1",
            "inspect": f"/containers/{self._made[engine.name][0]}/json",
        }  # fmt: skip
        for what, path in paths.items():
            for number in _CONNECTIONS:
                load = generate(engine.api, path, number, seconds)
                name = f"{what} {number}"
                values |= {name: load.rate, f"{name} p50": load.p50, f"{name} p99": load.p99}
        return values

    def finish(self, engine: Engine, here: Surroundings) -> None:
        each(engine, "DELETE", "/containers/ID?force=1", self._made.pop(engine.name, []))


CASES = (Requests(),)
