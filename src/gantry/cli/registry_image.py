"""`gantry registry image`: an image of the registry server, from Debian's packages, this package and PyPI's wheels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gantry.cli.flags import Arguments

_BASE = "gantry/registry-base"
_DOCKERFILE = """\
FROM {base}
COPY wheels /opt/gantry/wheels
RUN python3 -m venv /opt/gantry/venv \\
 && /opt/gantry/venv/bin/pip install --no-index --no-cache-dir --find-links /opt/gantry/wheels \\
    -r /opt/gantry/wheels/requirements.txt
COPY gantry /opt/gantry/lib/gantry
COPY config.yml /etc/registry/config.yml
RUN python3 -m compileall -q /opt/gantry/lib
ENV PYTHONPATH=/opt/gantry/lib PYTHONUNBUFFERED=1
LABEL io.gantry.registry={version}
VOLUME /var/lib/registry
EXPOSE 5000
ENTRYPOINT ["/opt/gantry/venv/bin/python", "-m", "gantry.daemon.registry"]
CMD ["serve", "--config", "/etc/registry/config.yml"]
"""
_CONFIGURATION = """\
version: 0.1
storage:
  filesystem: {rootdirectory: /var/lib/registry}
  delete: {enabled: true}
http:
  addr: :5000
"""


def _image(ctx: Context, args: Arguments) -> int:
    from gantry import __version__

    base = args.string("base") or _bootstrap(ctx, args)
    with tempfile.TemporaryDirectory(prefix="gantry-registry-") as directory:
        _package(os.path.join(directory, "gantry"))
        _wheels(ctx, base, os.path.join(directory, "wheels"))
        for name, text in (
            ("Dockerfile", _DOCKERFILE.format(base=base, version=__version__)),
            ("config.yml", _CONFIGURATION),
        ):
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(text)
        quiet = ["--quiet"] if args.boolean("quiet") else []
        _gantry(ctx, "build", *quiet, "-t", args.string("tag"), directory)
    return 0


def _bootstrap(ctx: Context, args: Arguments) -> str:
    suite = args.string("suite") or _own_suite()
    name = f"{_BASE}:{suite}"
    quiet = ["--quiet"] if args.boolean("quiet") else []
    _gantry(ctx, "image", "bootstrap", *quiet, "--include", "python3,python3-venv", "-t", name, suite)
    return name


def _own_suite() -> str:
    with open("/etc/os-release", encoding="utf-8") as file:
        facts = dict(line.rstrip().partition("=")[::2] for line in file)
    suite = facts.get("VERSION_CODENAME", "").strip('"')
    if facts.get("ID", "").strip('"') != "debian" or not suite:
        raise CommandError("this machine is no Debian with a name of its own: choose a suite with --suite trixie")
    return suite


def _package(target: str) -> None:
    """This very package: the server in the image is the one that the command belongs to."""
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def _wheels(ctx: Context, base: str, target: str) -> None:
    """The wheels of what the package needs, for the interpreter that the base image has."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        needed = [line for line in requires("gantry") or () if "extra ==" not in line]
    except PackageNotFoundError as error:
        raise CommandError("gantry is not installed as a package here: what it needs is not known") from error
    os.makedirs(target)
    path = os.path.join(target, "requirements.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(needed) + "\n")
    version = _gantry(
        ctx, "run", "--rm", "--network", "none", base, "python3", "-c",
        "import sys; print('%d.%d' % sys.version_info[:2])", capture=True,
    )  # fmt: skip
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", target,
        "--only-binary=:all:", "--python-version", version.strip(), "-r", path,
    ]  # fmt: skip
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode:
        raise CommandError("pip could not fetch the wheels that the registry needs")


def _gantry(ctx: Context, *words: str, capture: bool = False) -> str:
    """Run another of our own commands on the same endpoint."""
    chosen: list[str] = []
    for name in ("config", "context"):
        if value := ctx.flags.string(name):
            chosen += [f"--{name}", value]
    for host in ctx.flags.strings("host"):
        chosen += ["--host", host]
    ctx.out.flush()
    done = subprocess.run(
        [sys.executable, "-m", "gantry.cli.main", *chosen, *words],
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError("", done.returncode)
    return done.stdout or ""


COMMAND = Command(
    _image,
    "[OPTIONS]",
    (
        string("base", "", "Image with python3 and its venv module to build on (default: made from Debian's packages)"),
        boolean("quiet", "q", "Print the image's ID only"),
        string("suite", "", "Debian's suite for the base (default: this machine's)"),
        string("tag", "t", "Name of the image", default="gantry/registry:latest"),
    ),
    most=0,
    description=(
        "Build an image of the registry server from Debian's packages and PyPI's wheels.\n"
        "It listens on port 5000 and keeps its data in /var/lib/registry."
    ),
)
