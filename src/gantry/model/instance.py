"""One daemon's own corner of the machine: everything it makes outside its directories carries its name."""

import hashlib
from pathlib import Path

import msgspec

DEFAULT_DATA_ROOT = Path("/var/lib/gantry")
DEFAULT_EXEC_ROOT = Path("/run/gantry")


class Instance(msgspec.Struct, frozen=True):
    """Directories and the names derived from them, so that daemons with different roots never meet.

    `name` is `gantry` for the default data root, else `gantry-` and six hexadecimal digits of its path.
    """

    data_root: Path
    exec_root: Path
    name: str

    @classmethod
    def of(cls, data_root: Path, exec_root: Path) -> "Instance":
        if data_root == DEFAULT_DATA_ROOT:
            return cls(data_root, exec_root, "gantry")
        return cls(data_root, exec_root, "gantry-" + hashlib.sha256(bytes(data_root)).hexdigest()[:6])

    @property
    def tag(self) -> str:
        """Two to six characters for interface names, which the kernel limits to fifteen."""
        return "gy" if self.name == "gantry" else "gy" + self.name[-4:]

    @property
    def nft_table(self) -> str:
        return self.name.replace("-", "_")

    @property
    def cgroup_parent(self) -> str:
        return f"/{self.name}"
