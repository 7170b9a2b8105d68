"""`gantry image ls --tree`: images with their platforms below them."""

from __future__ import annotations

from gantry.cli.image import familiar, short_id
from gantry.cli.tabwriter import align
from gantry.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from gantry.cli.command import Context


def print_tree(ctx: Context, images: Iterable[Mapping[str, Any]]) -> None:
    """One line per image, one more per further name, one per platform that is stored."""
    lines = ["IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tEXTRA"]
    for image in images:
        names = [familiar(name) for name in image.get("RepoTags") or ()] or ["<untagged>"]
        summaries = [entry for entry in image.get("Manifests") or () if entry.get("Kind", "image") == "image"]
        content = sum(int((entry.get("Size") or {}).get("Content") or 0) for entry in summaries)
        used = int(image.get("Containers", -1)) > 0 or any(
            (s.get("ImageData") or {}).get("Containers") for s in summaries
        )
        lines.append(_line(names[0], image["Id"], int(image.get("Size") or 0), content, used=used))
        lines += [f"{name}\t\t\t\t" for name in names[1:]]
        for place, entry in enumerate(summaries):
            branch = "└─ " if place == len(summaries) - 1 else "├─ "
            data = entry.get("ImageData") or {}
            platform = data.get("Platform") or (entry.get("Descriptor") or {}).get("platform") or {}
            parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
            size = entry.get("Size") or {}
            lines.append(
                _line(
                    branch + "/".join(part for part in parts if part),
                    str(entry.get("ID") or ""),
                    int(size.get("Total") or 0),
                    int(size.get("Content") or 0),
                    used=bool(data.get("Containers")),
                )
            )
    ctx.out.write(align("\n".join(lines) + "\n"))


def _line(name: str, digest: str, disk: int, content: int, *, used: bool) -> str:
    return f"{name}\t{short_id(digest)}\t{human_size(disk, 3)}\t{human_size(content, 3)}\t{'U' if used else ''}"
