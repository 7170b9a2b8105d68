"""What becomes of a daemon whose start fails."""

import asyncio

import pytest

from gantry.daemon.main import _first
from gantry.errors import Internal


@pytest.mark.parametrize("error", [Internal("state: broken"), ValueError("a bug")])
async def test_a_start_that_fails_ends_the_daemon(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def start() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        await _first(start(), asyncio.Event())


async def test_a_stop_comes_before_the_end_of_the_start() -> None:
    stop = asyncio.Event()
    stop.set()
    assert not await _first(asyncio.sleep(60), stop)
