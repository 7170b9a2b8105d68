"""Platforms: `os/architecture[/variant]` (OCI image index, "platform")."""

import platform as host
from typing import Self

import msgspec

from gantry.errors import InvalidArgument

_ARCHITECTURES = {
    "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armhf": "arm", "armel": "arm",
    "i386": "386", "i686": "386",
}  # fmt: skip


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `linux/arm64/v8`, `arm64` or `linux`; raises InvalidArgument."""
        parts = text.lower().split("/")
        if not 1 <= len(parts) <= 3 or not all(part.replace("_", "").replace("-", "").isalnum() for part in parts):
            raise InvalidArgument(f'"{text}": unknown operating system or architecture: invalid argument')
        local = cls.host()
        if len(parts) == 1:
            if parts[0] == "linux":
                return cls("linux", local.architecture, local.variant)
            return cls("linux", *_normal(parts[0], ""))
        return cls(parts[0], *_normal(parts[1], parts[2] if len(parts) == 3 else ""))

    @classmethod
    def host(cls) -> Self:
        """The platform that this machine runs."""
        return cls("linux", *_normal(host.machine().lower(), ""))

    def matches(self, wanted: "Platform") -> bool:
        """Whether an image for this platform serves a request for `wanted`."""
        return (self.os, self.architecture) == (wanted.os, wanted.architecture) and (
            not wanted.variant or not self.variant or self.variant == wanted.variant
        )

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def _normal(architecture: str, variant: str) -> tuple[str, str]:
    known = _ARCHITECTURES.get(architecture, architecture)
    if known == "arm" and not variant:
        variant = "v5" if architecture == "armel" else "v7"
    if known == "arm64" and variant in ("8", "v8"):
        variant = ""
    return known, variant
