"""Running nft: its words, its failures, on both event loops."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from gantry.errors import Unavailable
from gantry.linux import nft

Program = Callable[[str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a shell script in the place of nft."""

    def put(text: str) -> None:
        path = tmp_path / "nft"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return put


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    made: Callable[[], asyncio.AbstractEventLoop] = request.param
    return made


def test_a_script_of_any_length_arrives(
    program: Program, loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    program(f'[ "$*" = "-f -" ] && cat > {tmp_path}/seen')
    script = "add element inet t any4 { tcp . 80 : 172.17.0.2 . 80 }\n" * 20_000
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(nft.apply(script))
    assert (tmp_path / "seen").read_text() == script


def test_a_program_that_reads_nothing(program: Program, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    program("exit 0")

    async def often() -> None:
        for _ in range(20):
            await nft.apply("x" * 1_000_000)
            assert await nft.list_json("chains") == []

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(often())


async def test_the_first_complaint_is_the_message(program: Program) -> None:
    program('echo "Error: Could not process rule: No such file" >&2; echo "^^^" >&2; exit 1')
    with pytest.raises(nft.NftError, match=r"^nft: Error: Could not process rule: No such file$"):
        await nft.apply("x")


async def test_listing_leaves_out_the_header(program: Program) -> None:
    program("""echo '{"nftables": [{"metainfo": {"version": "1"}}, {"table": {"name": "t"}}]}'""")
    assert await nft.list_json("tables") == [{"table": {"name": "t"}}]


async def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft.shutil, "which", lambda *_, **__: None)
    with pytest.raises(Unavailable, match="nft is not installed: apt-get install nftables"):
        await nft.apply("x")
