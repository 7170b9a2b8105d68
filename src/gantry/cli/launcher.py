"""Write the `gantry` program of an environment: `python -m gantry.cli.launcher .venv/bin/gantry`.

A script that pip makes imports `re`, and the interpreter it names runs `site` with every .pth file: together more than
all of `gantry ps`. This one starts the interpreter isolated (-I) and without `site` (-S), and adds the two directories
itself; at its end it leaves the memory to the kernel.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path


def script(interpreter: str, paths: list[str]) -> str:
    """The text of the program."""
    return f"#!{interpreter} -IS\nimport sys\nsys.path += {paths!r}\nfrom gantry.cli.main import program\nprogram()\n"


def write(target: Path) -> None:
    """Replace `target` by the program for the running interpreter and the installed package."""
    source = str(Path(__file__).resolve().parents[2])
    packages = sysconfig.get_paths()["purelib"]
    temporary = target.with_name(f".{target.name}.new")
    temporary.write_text(script(sys.executable, list(dict.fromkeys([source, packages]))), encoding="utf-8")
    temporary.chmod(0o755)
    os.replace(temporary, target)  # in one step


def main(words: list[str]) -> int:
    if len(words) != 1:
        sys.stderr.write("usage: python -m gantry.cli.launcher TARGET\n")
        return 2
    write(Path(words[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
