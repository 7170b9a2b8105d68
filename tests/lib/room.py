"""What a test needs to run containers without an engine: a tiny root file system and specifications for it."""

import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from gantry.model.container import HostConfig
from gantry.model.instance import Instance
from gantry.model.task import Mount, ProcessSpec, TaskSpec

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nowhere:/bin/false\n"
GROUP = "root:x:0:\nstaff:x:50:nobody\nnogroup:x:65534:\n"


def make_root(directory: Path) -> Path:
    """A root file system of static busybox with a passwd and a group file."""
    for name in ("bin", "etc", "tmp", "root"):
        (directory / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", directory / "bin" / "busybox")
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, check=True, text=True).stdout.split()
    for name in names:
        if name != "busybox":
            (directory / "bin" / name).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text(PASSWD)
    (directory / "etc" / "group").write_text(GROUP)
    (directory / "tmp").chmod(0o1777)
    return directory


class Room:
    """Specifications for one instance, each with a writable layer of its own on the same root."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.root = instance.data_root / "busybox"

    def spec(
        self,
        *args: str,
        host: HostConfig | None = None,
        env: tuple[str, ...] = (PATH,),
        cwd: str = "/",
        user: str = "",
        groups: tuple[str, ...] = (),
        tty: bool = False,
        stdin: bool = False,
        **fields: Any,
    ) -> TaskSpec:
        if not self.root.exists():
            make_root(self.root)
        identifier = secrets.token_hex(32)
        layer = self.instance.data_root / "layers" / identifier
        for name in ("upper", "work"):
            (layer / name).mkdir(parents=True)
        logs = self.instance.data_root / "containers" / identifier
        logs.mkdir(parents=True)
        spec = TaskSpec(
            id=identifier,
            name=f"test-{identifier[:8]}",
            process=ProcessSpec(args=args, env=env, cwd=cwd, user=user, groups=groups, tty=tty, stdin=stdin),
            rootfs=(
                Mount(
                    "overlay",
                    "overlay",
                    options=(f"lowerdir={self.root}", f"upperdir={layer}/upper", f"workdir={layer}/work"),
                ),
            ),
            hostname=identifier[:12],
            domainname="",
            host_config=host or HostConfig(),
            log_path=str(logs / f"{identifier}.log"),
        )
        return msgspec.structs.replace(spec, **fields)

    def upper(self, container_id: str) -> Path:
        return self.instance.data_root / "layers" / container_id / "upper"
