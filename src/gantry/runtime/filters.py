"""Compiled system call filters: what crun compiled once is handed back to it, which saves a third of a start.

crun takes a filter's program from an annotation in place of compiling `linux.seccomp` anew. The section stays
in the configuration, so a crun that does not know the annotation filters all the same.
"""

import base64
import hashlib
from typing import Any

import msgspec

from gantry.runtime.oci_runtime import OCIRuntime

ANNOTATION = "run.oci.seccomp_bpf_data"
_LARGEST = 4096 * 8  # BPF_MAXINSNS instructions of eight bytes
_REMEMBERED = 64


class FilterCache:
    """Programs by the digest of their source, for one run of the daemon."""

    def __init__(self) -> None:
        self._programs: dict[str, str] = {}

    def apply(self, document: dict[str, Any], runtime: OCIRuntime) -> str:
        """Add a known program to a configuration; returns the key to `learn` an unknown one by, else ""."""
        source = document["linux"].get("seccomp")
        if source is None or not runtime.is_crun or source.get("flags") or source.get("listenerPath"):
            return ""
        key = hashlib.sha256(msgspec.json.encode((runtime.info, source))).hexdigest()
        program = self._programs.get(key)
        if program is None:
            return key
        document.setdefault("annotations", {})[ANNOTATION] = program
        return ""

    def learn(self, key: str, runtime: OCIRuntime, container_id: str) -> None:
        """Remember the program that the runtime has just compiled for a container (blocking)."""
        try:
            program = (runtime.root / container_id / "seccomp.bpf").read_bytes()
        except OSError:
            return  # the process has ended already, or this crun keeps it elsewhere
        if program and len(program) % 8 == 0 and len(program) <= _LARGEST:
            if len(self._programs) >= _REMEMBERED:
                self._programs.clear()
            self._programs[key] = base64.b64encode(program).decode("ascii")
