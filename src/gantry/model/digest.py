"""Content digests: `algorithm:hex` (OCI image specification, "Digests")."""

import hashlib
import re
from typing import Self

from gantry.errors import InvalidArgument

_FORM = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Digest(str):
    """A validated digest. It is a `str`, so that it is its own JSON form."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _FORM.fullmatch(text):
            raise InvalidArgument(f"invalid digest format: {text!r}")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The twelve digits that lists show."""
        return self.hex[:12]
