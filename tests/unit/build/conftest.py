"""A builder on fake rooms, and a way to hand it a context."""

import io
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gantry.build.options import BuildOptions
from gantry.model.image import Image
from unit.build.fakes import Workshop

Files = dict[str, "str | tuple[int, str]"]


def context_tar(files: Files) -> bytes:
    """A tar of `files`: text, or (mode, text); a name that ends in `/` is a directory, "-> x" a link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            mode, text = content if isinstance(content, tuple) else (0o644, content)
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode, info.mtime = mode, 1_000_000_000
            data = text.encode()
            if name.endswith("/"):
                info.type, data = tarfile.DIRTYPE, b""
                info.mode = mode if isinstance(content, tuple) else 0o755
            elif text.startswith("-> "):
                info.type, info.linkname, data = tarfile.SYMTYPE, text[3:], b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Bench:
    """Runs builds and keeps what they said."""

    def __init__(self, workshop: Workshop) -> None:
        self.shop = workshop
        self.messages: list[dict[str, Any]] = []

    async def __call__(
        self, dockerfile: str, files: Files | None = None, *, vertexes: bool = False, **options: Any
    ) -> Image:
        data = [context_tar({"Dockerfile": dockerfile, **(files or {})}), b""]

        async def read() -> bytes:
            return data.pop(0) if data else b""

        self.messages = []
        image_id = await self.shop.builder.build(BuildOptions(**options), read, self.messages.append, vertexes=vertexes)
        return await self.shop.images.get(image_id)

    @property
    def text(self) -> str:
        return "".join(message.get("stream", "") for message in self.messages)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    made = Workshop(tmp_path)
    await made.base()
    yield made
    await made.builder.close()
    made.nothing_left()


@pytest.fixture
def build(shop: Workshop) -> Callable[..., Any]:
    return Bench(shop)
