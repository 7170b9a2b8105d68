"""Whole builds on fake rooms: what becomes of files, configuration, cache, and of a build that fails."""

import asyncio
import re
import stat
from pathlib import Path

import pytest

from gantry.build.errors import DockerfileError, StepFailed
from gantry.errors import InvalidArgument, NotFound, Unavailable, Unsupported
from gantry.model.container import ContainerConfig
from unit.build.conftest import Bench
from unit.build.fakes import Workshop


def writes(name: str, text: str = "x") -> "object":
    def command(root: Path, env: dict[str, str], args: list[str]) -> tuple[int, bytes, bytes]:
        (root / name).write_text(text)
        return 0, b"", b""

    return command


async def test_steps_and_progress(shop: Workshop, build: Bench) -> None:
    def make(root: Path, env: dict[str, str], args: list[str]) -> tuple[int, bytes, bytes]:
        (root / "made").write_text("x")
        return 0, b"out\n", b"err\n"

    shop.runtime.commands["make"] = make
    base = await shop.images.get("busybox")
    image = await build("FROM busybox\nENV A=1\nRUN make\nCMD run me\n", tags=("me/app", "me/app:2"))
    said = [re.sub(r"[0-9a-f]{12}", "ID", line) for line in build.text.splitlines()]
    assert said == [
        "Step 1/4 : FROM busybox", " ---> ID",
        "Step 2/4 : ENV A=1", " ---> ID",
        "Step 3/4 : RUN make", " ---> Running in ID", "out", "\x1b[91merr",
        "\x1b[0m ---> Removed intermediate container ID",
        " ---> ID",
        "Step 4/4 : CMD run me", " ---> ID",
        "Successfully built ID", "Successfully tagged me/app:latest", "Successfully tagged me/app:2",
    ]  # fmt: skip
    assert f" ---> {base.id[7:19]}\n" in build.text
    assert {"aux": {"ID": image.id}} in build.messages
    assert shop.images.names["me/app:2"] == image.id
    assert image.config.env == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1"]
    assert image.config.cmd == ["/bin/sh", "-c", "run me"]
    assert (shop.files(image) / "made").read_text() == "x"
    assert [entry.created_by for entry in image.history] == [
        "busybox",
        "/bin/sh -c #(nop)  ENV A=1",
        "/bin/sh -c make",
        '/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "run me"]',
    ]
    assert [entry.empty_layer for entry in image.history] == [False, True, False, True]
    task = shop.runtime.specs[0]
    assert task.process.args == ("/bin/sh", "-c", "make")
    assert shop.runtime.attached == ["bridge"]
    assert not task.ca_bundle


async def test_a_second_build_uses_the_cache_and_touch_changes_nothing(shop: Workshop, build: Bench) -> None:
    text = "FROM busybox\nCOPY f /f\nRUN x\nLABEL a=b\n"
    first = await build(text, {"f": "1"})
    again = await build(text, {"f": "1"})
    assert again.id == first.id
    assert build.text.count(" ---> Using cache") == 3
    assert len(shop.runtime.specs) == 1
    changed = await build(text, {"f": "2"})
    assert changed.id != first.id
    assert (shop.files(changed) / "f").read_text() == "2"
    await build(text, {"f": (0o755, "1")})
    assert "Using cache" not in build.text
    fresh = await build(text, {"f": "1"}, no_cache=True)
    assert "Using cache" not in build.text
    assert fresh.id != first.id


async def test_a_step_whose_image_is_gone_is_made_again(shop: Workshop, build: Bench) -> None:
    image = await build("FROM busybox\nRUN x\n")
    del shop.images.images[image.id]
    await build("FROM busybox\nRUN x\n")
    assert "Using cache" not in build.text
    assert len(shop.runtime.specs) == 2


async def test_a_changed_parent_makes_children_anew(shop: Workshop, build: Bench) -> None:
    await build("FROM busybox\nRUN a\nRUN b\n")
    await build("FROM busybox\nENV X=1\nRUN a\nRUN b\n")
    assert "Using cache" not in build.text
    await build("FROM busybox\nRUN a\nRUN c\n")
    assert build.text.count("Using cache") == 1


async def test_build_arguments(shop: Workshop, build: Bench) -> None:
    seen: list[dict[str, str]] = []

    def command(root: Path, env: dict[str, str], args: list[str]) -> tuple[int, bytes, bytes]:
        seen.append(env)
        return 0, b"", b""

    shop.runtime.commands["show"] = command
    text = "ARG G=global\nFROM busybox\nARG A=1\nARG B\nARG G\nENV C=env\nARG C=arg\nRUN show\nARG A\n"
    image = await build(text, build_args={"B": "two", "nope": "1", "HTTP_PROXY": "http://p"})
    assert seen[0] | {"A": "1", "B": "two", "G": "global", "C": "env", "HTTP_PROXY": "http://p"} == seen[0]
    assert "[Warning] One or more build-args [nope] were not consumed\n" in build.text
    assert image.history[6].created_by == "|3 A=1 B=two G=global /bin/sh -c show"
    await build(text, build_args={"B": "two", "HTTP_PROXY": "http://other"})
    assert len(seen) == 1  # a proxy is no part of the key
    await build(text, build_args={"B": "three"})
    assert len(seen) == 2
    assert "NOT_DECLARED" not in seen[0]


async def test_an_argument_reaches_labels_and_base(shop: Workshop, build: Bench) -> None:
    await shop.base("other")
    image = await build(
        'ARG BASE=busybox\nFROM ${BASE:-x}\nARG email="a@b c"\nLABEL "m"=$email\n', build_args={"BASE": "other"}
    )
    assert image.config.labels == {"m": "a@b c"}
    assert image.history[0].created_by == "other"
    image = await build("FROM busybox\nARG TARGETARCH\nLABEL a=$TARGETARCH b=${NO:-d}\n")
    assert image.config.labels is not None
    assert image.config.labels["a"]
    assert image.config.labels["b"] == "d"


async def test_stages_run_at_once_and_unneeded_ones_never(shop: Workshop, build: Bench) -> None:
    shop.runtime.commands["a"] = writes("a")  # type: ignore[assignment]
    shop.runtime.commands["b"] = writes("b")  # type: ignore[assignment]
    shop.runtime.together = 2
    image = await build(
        "FROM busybox AS one\nRUN a\nFROM busybox AS two\nRUN b\nFROM busybox AS idle\nRUN never\n"
        "FROM scratch\nCOPY --from=one /a /\nCOPY --from=1 /b /x/\n"
    )
    assert shop.runtime.most_running == 2
    assert sorted(spec.process.args[-1] for spec in shop.runtime.specs) == ["a", "b"]
    assert sorted(path.name for path in shop.files(image).rglob("*")) == ["a", "b", "x"]
    steps = [line for line in build.text.splitlines() if line.startswith("Step ")]
    assert [line.split()[1] for line in steps] == [f"{n}/7" for n in range(1, 8)]
    image = await build("FROM busybox AS one\nENV A=1\nFROM one\nENV B=2\n", target="one")
    assert image.config.env is not None
    assert image.config.env[-1] == "A=1"
    with pytest.raises(DockerfileError, match='target stage "no" could not be found'):
        await build("FROM busybox\n", target="no")


async def test_copy_from_an_image(shop: Workshop, build: Bench) -> None:
    await shop.base("other")
    image = await build("FROM busybox\nCOPY --from=other /bin/sh /copied\n")
    assert (shop.files(image) / "copied").read_text() == "other"
    with pytest.raises(StepFailed, match="invalid from flag value nope: pull access denied"):
        await build("FROM busybox\nCOPY --from=nope / /\n")
    with pytest.raises(DockerfileError, match="invalid from flag value 7: index out of bounds"):
        await build("FROM busybox\nCOPY --from=7 / /\n")


async def test_metadata(shop: Workshop, build: Bench) -> None:
    image = await build(
        "FROM busybox\nMAINTAINER me\nUSER app:staff\nWORKDIR /a\nWORKDIR b/../c\nEXPOSE 80 443/udp 10-12\n"
        'VOLUME /v\nVOLUME ["/w", "/z"]\nENTRYPOINT ["e"]\nSTOPSIGNAL SIGINT\nSHELL ["/bin/bash", "-c"]\n'
        "HEALTHCHECK --interval=1m30s --retries=3 CMD true\nONBUILD RUN later\nLABEL a=1\n",
        labels={"z": "2"},
    )
    config = image.config
    assert (image.author, config.user, config.working_dir) == ("me", "app:staff", "/a/c")
    assert set(config.exposed_ports or ()) == {"80/tcp", "443/udp", "10/tcp", "11/tcp", "12/tcp"}
    assert set(config.volumes or ()) == {"/v", "/w", "/z"}
    assert (config.entrypoint, config.cmd) == (["e"], None)
    assert (config.stop_signal, config.shell, config.on_build) == ("SIGINT", ["/bin/bash", "-c"], ["RUN later"])
    assert config.healthcheck is not None
    assert (config.healthcheck.test, config.healthcheck.interval) == (["CMD-SHELL", "true"], 90 * 10**9)
    assert config.labels == {"a": "1", "z": "2"}
    assert (shop.files(image) / "a" / "c").is_dir()
    texts = [entry.created_by for entry in image.history]
    assert "/bin/bash -c #(nop)  HEALTHCHECK &{[CMD-SHELL true] 1m30s 0s 0s 0s 3}" in texts
    assert "/bin/sh -c #(nop)  EXPOSE 10-12 443/udp 80" in texts
    assert "/bin/sh -c #(nop) WORKDIR /a/c" in texts


async def test_triggers_of_the_base(shop: Workshop, build: Bench) -> None:
    shop.runtime.commands["hi"] = writes("hi")  # type: ignore[assignment]
    await build("FROM busybox\nONBUILD RUN hi\nONBUILD ENV T=1\n", tags=("base",))
    shop.images.names["base"] = shop.images.names["base:latest"]
    image = await build("FROM base\nRUN x\n")
    assert "# Executing 2 build triggers\n" in build.text
    assert image.config.on_build is None
    assert image.config.env is not None
    assert "T=1" in image.config.env
    assert (shop.files(image) / "hi").exists()


async def test_a_failed_step(shop: Workshop, build: Bench) -> None:
    shop.runtime.commands["bad"] = lambda root, env, args: (7, b"", b"no way\n")
    with pytest.raises(StepFailed, match="The command '/bin/sh -c bad' returned a non-zero code: 7") as caught:
        await build("FROM busybox\nRUN bad\nRUN never\n", force_remove=True)
    assert caught.value.code == 7
    assert "no way" in build.text
    assert "Removing intermediate container" in build.text
    assert len(shop.runtime.specs) == 1
    shop.nothing_left()


async def test_quiet(shop: Workshop, build: Bench) -> None:
    image = await build("FROM busybox\nRUN x\n", quiet=True)
    assert build.messages == [{"stream": f"{image.id}\n"}]
    shop.runtime.commands["bad"] = lambda root, env, args: (1, b"why", b"")
    with pytest.raises(StepFailed):
        await build("FROM busybox\nRUN bad\n", quiet=True)
    assert "why" in build.text


async def test_vertexes(shop: Workshop, build: Bench) -> None:
    shop.runtime.commands["make"] = lambda root, env, args: (0, b"\xff\n", b"")
    await build("FROM busybox\nRUN make\n", vertexes=True)
    done = [m["vertex"] for m in build.messages if "vertex" in m and "completed" in m["vertex"]]
    assert [v["name"] for v in done] == ["[internal] load metadata for busybox", "[1/2] FROM busybox", "[2/2] RUN make"]
    assert done[2]["inputs"] == [done[1]["digest"]]
    (log,) = [m["log"] for m in build.messages if "log" in m]
    assert (log["data"], log["stream"], log["vertex"]) == ("/wo=", 1, done[2]["digest"])


async def test_two_builds_share_a_step(shop: Workshop) -> None:
    shop.runtime.hang = asyncio.Event()
    one, two = Bench(shop), Bench(shop)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(one("FROM busybox\nRUN slow\n"))
        second = group.create_task(two("FROM busybox\nRUN slow\n"))
        while not shop.runtime.specs:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        shop.runtime.hang.set()
    assert first.result().id == second.result().id
    assert len(shop.runtime.specs) == 1
    assert "Running in" in one.text
    assert "Running in" in two.text


async def test_a_build_that_is_cancelled_leaves_nothing(shop: Workshop) -> None:
    shop.runtime.hang = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Bench(shop)("FROM busybox\nRUN slow\n"))
        while not shop.runtime.specs:
            await asyncio.sleep(0.01)
        task.cancel()
    assert task.cancelled()
    shop.nothing_left()


async def test_the_other_build_goes_on_when_one_is_cancelled(shop: Workshop) -> None:
    shop.runtime.hang = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(Bench(shop)("FROM busybox\nRUN slow\n"))
        while not shop.runtime.specs:
            await asyncio.sleep(0.01)
        second = group.create_task(Bench(shop)("FROM busybox\nRUN slow\n"))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.sleep(0.05)
        shop.runtime.hang.set()
    assert second.result().id
    assert len(shop.runtime.specs) == 1


async def test_networks(shop: Workshop, build: Bench) -> None:
    await build("FROM busybox\nRUN --network=none a\nRUN --network=host b\nRUN c\n", network="mine")
    netns = [bool(spec.netns) for spec in shop.runtime.specs]
    assert netns == [True, False, True]
    assert shop.runtime.attached == ["mine"]
    with pytest.raises(NotFound, match="network nope not found"):
        await build("FROM busybox\nRUN d\n", network="nope")
    shop.nothing_left()


async def test_lending_the_hosts_authorities(shop: Workshop, build: Bench) -> None:
    image = await build("FROM busybox\nRUN x\n", host_ca=True)
    assert shop.runtime.specs[0].ca_bundle == "/host/ca.crt"
    assert not any("CERT" in item for item in image.config.env or ())
    shop.builder._ca_bundle = ""
    with pytest.raises(Unavailable, match="ca-certificates"):
        await build("FROM busybox\nRUN x\n", host_ca=True)


async def test_pull(shop: Workshop, build: Bench) -> None:
    await build("FROM busybox\nENV A=1\n", pull=True)
    assert shop.images.pulled == ["busybox"]
    assert build.messages[0] == {"status": "Pulling busybox", "id": "busybox"}
    with pytest.raises(NotFound, match="pull access denied for nope"):
        await build("FROM nope\n")


async def test_here_documents(shop: Workshop, build: Bench) -> None:
    image = await build(
        "FROM busybox\nENV W=world\nCOPY <<one <<'two' /d/\nhello $W\none\nhello $W\ntwo\n"
        "RUN <<E\nfirst\nsecond\nE\nRUN cat <<E >x\nin\nE\nRUN <<S\n#!/bin/py\ncode\nS\n"
    )
    assert (shop.files(image) / "d" / "one").read_text() == "hello world\n"
    assert (shop.files(image) / "d" / "two").read_text() == "hello $W\n"
    args = [spec.process.args[-1] for spec in shop.runtime.specs]
    assert args == ["first\nsecond\n", "cat <<E >x\nin\nE", "/dev/pipes/S"]
    assert shop.runtime.specs[2].mounts[0].destination == "/dev/pipes/S"


async def test_an_image_without_steps(shop: Workshop, build: Bench) -> None:
    base = await shop.images.get("busybox")
    assert (await build("FROM busybox AS a\nFROM a\n")).id == base.id
    with pytest.raises(DockerfileError, match="No image was generated"):
        await build("FROM scratch\n")
    image = await build("FROM scratch\nLABEL a=b\n")
    assert image.config == ContainerConfig(
        env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], labels={"a": "b"}
    )


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("RUN x\nFROM busybox\n", "no build stage in current context"),
        ("FROM ${x}\n", "base name (${x}) should not be blank"),
        ("FROM busybox\nENV A=${x:?nope}\n", 'failed to process "${x:?nope}": x: nope'),
        ("FROM busybox\nEXPOSE abc\n", "Invalid containerPort: abc"),
        ("FROM busybox\nSTOPSIGNAL FOO\n", "invalid signal: FOO"),
        ("FROM busybox\nCOPY a b c\n", "When using COPY with more than one source file, the destination must be"),
        ("FROM busybox\nCOPY ../x /\n", "COPY failed: forbidden path outside the build context: ../x ()"),
        ("FROM busybox\nCOPY nope /\n", "COPY failed: file not found in build context or excluded by .dockerignore"),
        ("FROM busybox\nCOPY x* /\n", "COPY failed: no source files were specified"),
        ("FROM busybox\nCOPY --chown=who Dockerfile /\n", "can't find uid for user who: no such user: who"),
        ("FROM busybox\nADD http://127.0.0.1:1/ /x/\n", "cannot determine filename from url"),
        ("FROM busybox\nWORKDIR /bin/sh\n", "Cannot mkdir: /bin/sh is not a directory"),
    ],
)  # fmt: skip
async def test_mistakes(shop: Workshop, build: Bench, dockerfile: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await build(dockerfile)
    assert message in caught.value.message
    shop.nothing_left()


@pytest.mark.parametrize("line", ["RUN --security=insecure x", "RUN --device=x y"])
async def test_what_is_not_supported_says_so(shop: Workshop, build: Bench, line: str) -> None:
    with pytest.raises(Unsupported, match=r"not supported|not allowed"):
        await build(f"FROM busybox\n{line}\n")


async def test_an_error_shows_its_line(shop: Workshop, build: Bench) -> None:
    with pytest.raises(DockerfileError) as caught:
        await build("FROM busybox\nENV A=1\nEXPOSE x\nENV B=2\n")
    assert caught.value.excerpt == "  1 | FROM busybox\n  2 | ENV A=1\n> 3 | EXPOSE x\n  4 | ENV B=2\n  5 |"


async def test_recovery(shop: Workshop) -> None:
    shop.snapshots.prepare("build-left", "")
    shop.runtime.sandboxes.add("left")
    left = shop.root / "data" / "build" / "tmp" / "left"
    left.mkdir(parents=True)
    (left / "file").touch()
    await shop.builder.recover()
    shop.nothing_left()


async def test_prune(shop: Workshop, build: Bench) -> None:
    await build("FROM busybox\nRUN x\nENV A=1\n")
    assert await shop.builder.prune(unused_for=3600) == ([], 0)
    keys, _ = await shop.builder.prune()
    assert len(keys) == 2
    assert ("builder", "prune") in shop.events.published
    await build("FROM busybox\nRUN x\n")
    assert "Using cache" not in build.text


async def test_modes_survive(shop: Workshop, build: Bench) -> None:
    image = await build(
        "FROM busybox\nCOPY --chmod=u=rwX,go=rX d /d/\nCOPY --chmod=4711 f /f\n",
        {"d/": (0o700, ""), "d/f": "1", "f": "2"},
    )
    assert stat.S_IMODE((shop.files(image) / "d" / "f").stat().st_mode) == 0o644
    assert stat.S_IMODE((shop.files(image) / "f").stat().st_mode) == 0o4711


async def test_a_failed_step_says_where_it_stands_and_on_what(shop: Workshop, build: Bench) -> None:
    shop.runtime.commands["bad"] = lambda root, env, args: (3, b"", b"")
    with pytest.raises(StepFailed) as caught:
        await build("FROM busybox\nENV A=1\nRUN bad\n")
    error = caught.value
    assert (error.file, error.line, error.code, error.shell) == ("Dockerfile", 3, 3, ("/bin/sh", "-c"))
    assert "> 3 | RUN bad" in error.excerpt
    assert (await shop.images.get(error.image)).config.env[-1] == "A=1"  # type: ignore[index]
