"""`gantry image bootstrap`: a base image from this machine's Debian packages, without any registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string, string_slice, strings
from gantry.cli.image_transfer import import_stream, split_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

    from gantry.cli.flags import Arguments

_BLOCK = 1 << 20
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BUSYBOX = ("/usr/bin/busybox", "/bin/busybox")
_USERS = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUPS = """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
mail:x:8:
kmem:x:9:
wheel:x:10:root
cdrom:x:11:
dialout:x:18:
floppy:x:19:
video:x:28:
audio:x:29:
tape:x:32:
www-data:x:33:
operator:x:37:
utmp:x:43:
plugdev:x:46:
staff:x:50:
lock:x:54:
netdev:x:82:
users:x:100:
nogroup:x:65534:
"""
_CUSTOMIZE = """\
set -e
# packages must not start services while an image is being made
printf '#!/bin/sh\\nexit 101\\n' >"$1/usr/sbin/policy-rc.d"
chmod 0755 "$1/usr/sbin/policy-rc.d"
# downloaded packages and translations never stay in a layer
cat >"$1/etc/apt/apt.conf.d/90container" <<'EOF'
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
Acquire::Languages "none";
Acquire::GzipIndexes "true";
EOF
echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/90container"
cd "$1"
rm -rf var/lib/apt/lists/* var/cache/apt/*.bin var/cache/debconf/*-old var/lib/dpkg/*-old var/log/apt var/log/*.log \\
  var/cache/ldconfig/aux-cache etc/resolv.conf etc/hostname
"""


def _run(ctx: Context, args: Arguments) -> int:
    suite = args.positional[0]
    if not suite or not all(char.isalnum() or char in "-._" for char in suite) or not suite[0].isalnum():
        raise CommandError(f'"{suite}" is no suite of Debian: name one like bookworm or trixie, or busybox')
    name = args.string("tag") or ("busybox:latest" if suite == "busybox" else f"debian:{suite}")
    _check_name(name)
    if suite == "busybox":
        for flag in ("include", "mirror", "variant"):
            if flag in args.changed:
                raise CommandError(f"--{flag} needs a suite of Debian, busybox has nothing of it")
        source, command = busybox_tar(_static_busybox()), "sh"
    else:
        source, command = _debian(args, suite), "bash"
    repository, tag = split_name(name)
    changes = [f'CMD ["{command}"]', f"ENV {_PATH}", f"LABEL io.gantry.bootstrap={suite}"]
    image = ""
    message = f"Bootstrapped {suite} from Debian packages"
    for entry in import_stream(ctx, source, repository, tag or "latest", changes, message):
        image = str(entry.get("status") or image)
    ctx.out.write(image + "\n" if args.boolean("quiet") else f"{name} is {image}\n")
    return 0


def _check_name(name: str) -> None:
    from gantry.errors import InvalidArgument
    from gantry.model.reference import Reference

    try:
        reference = Reference.parse(name)
    except InvalidArgument as error:
        raise CommandError(f'invalid argument "{name}" for "-t, --tag" flag: {error.message}') from error
    if reference.digest:
        raise CommandError(f'invalid argument "{name}" for "-t, --tag" flag: a digest cannot be given')


# ------------------------------------------------------------------------------------- busybox


def _static_busybox() -> Path:
    for name in _BUSYBOX:
        path = Path(name)
        if path.is_file() and _is_static(path):
            return path
    raise CommandError("a static busybox is needed and not installed here: apt-get install busybox-static")


def _is_static(path: Path) -> bool:
    """Whether an ELF file names no program interpreter (PT_INTERP, elf(5))."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF" or head[4] not in (1, 2):
            return False
        little = head[5] == 1
        places = ((32, 40), (54, 56), (56, 58)) if head[4] == 2 else ((28, 32), (42, 44), (44, 46))
        offset, width, count = (_number(head[start:end], little=little) for start, end in places)
        file.seek(offset)
        table = file.read(width * count)
    return all(_number(table[at : at + 4], little=little) != 3 for at in range(0, len(table), width or 1))


def _number(data: bytes, *, little: bool) -> int:
    return int.from_bytes(data, "little" if little else "big")


def busybox_tar(binary: Path) -> Iterator[bytes]:
    """A root file system of busybox alone; the same binary gives the same bytes."""
    import io
    import tarfile

    applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    when = int(binary.stat().st_mtime)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, kind: bytes, mode: int, *, link: str = "", data: bytes = b"") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime, entry.linkname, entry.size = kind, mode, when, link, len(data)
            entry.uname = entry.gname = "root"
            archive.addfile(entry, io.BytesIO(data))

        add("bin", tarfile.DIRTYPE, 0o755)
        add("bin/busybox", tarfile.REGTYPE, 0o755, data=binary.read_bytes())
        for applet in sorted({*applets} - {"busybox"}):
            add(f"bin/{applet}", tarfile.LNKTYPE, 0o755, link="bin/busybox")
        for directory in ("dev", "etc", "home", "lib", "proc", "sys", "usr", "usr/bin", "usr/sbin", "var", "var/spool"):
            add(directory, tarfile.DIRTYPE, 0o755)
        for directory, mode in (("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777), ("var/www", 0o755)):
            add(directory, tarfile.DIRTYPE, mode)
        add("usr/bin/env", tarfile.SYMTYPE, 0o777, link="../../bin/env")
        add("etc/passwd", tarfile.REGTYPE, 0o644, data=_USERS.encode())
        add("etc/group", tarfile.REGTYPE, 0o644, data=_GROUPS.encode())
        shadow = "".join(line.partition(":")[0] + ":*:::::::\n" for line in _USERS.splitlines())
        add("etc/shadow", tarfile.REGTYPE, 0o640, data=shadow.encode())
    data = buffer.getvalue()
    for at in range(0, len(data), _BLOCK):
        yield data[at : at + _BLOCK]


# -------------------------------------------------------------------------------------- Debian


def _debian(args: Arguments, suite: str) -> Iterator[bytes]:
    """The tar that mmdebstrap writes, as it comes; raises CommandError where it fails."""
    from shutil import which

    if which("mmdebstrap") is None:
        raise CommandError("mmdebstrap is needed and not installed here: apt-get install mmdebstrap")
    packages = ["ca-certificates", *args.strings("include")]
    command = [
        "mmdebstrap",
        f"--variant={args.string('variant')}",
        f"--include={','.join(packages)}",
        '--aptopt=Acquire::Languages "none"',
        f"--customize-hook={_CUSTOMIZE}",
        *(["--quiet"] if args.boolean("quiet") else []),
        "--",
        suite,
        "-",
        *(args.strings("mirror") or _host_mirror()),
    ]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    sys.stdout.flush()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment)
    assert process.stdout is not None
    return _output(process, process.stdout, suite)


def _output(process: subprocess.Popen[bytes], output: IO[bytes], suite: str) -> Iterator[bytes]:
    try:
        while block := output.read(_BLOCK):
            yield block
        if process.wait():
            raise CommandError(f"mmdebstrap could not make {suite}: it ended with status {process.returncode}")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        output.close()


def _host_mirror() -> list[str]:
    """The Debian mirror that this machine's own apt uses, [] where it uses none (mmdebstrap then has its default)."""
    question = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    try:
        answer = subprocess.run([*question, "Label: Debian"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return answer.stdout.split()[:1]


def _flags() -> tuple[Any, ...]:
    return (
        string_slice("include", "", "Further packages to install"),
        strings("mirror", "", "Package mirror, or a whole line of sources.list (default: this machine's own)"),
        boolean("quiet", "q", "Print the image's ID only"),
        string("tag", "t", "Name of the image (default: debian:SUITE, or busybox:latest)"),
        string("variant", "", "Which packages mmdebstrap selects", default="minbase"),
    )


COMMAND = Command(_run, "[OPTIONS] SUITE|busybox", _flags(), least=1, most=1)
