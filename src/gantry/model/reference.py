"""Image references: `[domain/]path[:tag][@digest]` (distribution reference grammar), Docker's defaults applied."""

import re
from typing import Self

import msgspec

from gantry.errors import InvalidArgument
from gantry.model.digest import Digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN_FORM = re.compile(_DOMAIN)
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_HEX_ID = re.compile(r"[a-f0-9]{64}")


class Reference(msgspec.Struct, frozen=True):
    """A normalised reference; `path` has `library/` where Docker adds it."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str, *, default_tag: bool = True) -> Self:
        """Parse what a user typed; raises InvalidArgument with Docker's words.

        With `default_tag`, `:latest` is added where neither tag nor digest is given.
        """
        bad = InvalidArgument("invalid reference format")
        if not text or len(text) > 512:
            raise bad
        if _HEX_ID.fullmatch(text):
            raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        rest, _, digest = text.partition("@")
        if "@" in text:
            try:
                Digest(digest)
            except InvalidArgument:
                raise bad from None
        name, tag = rest, ""
        colon = rest.rfind(":")
        if colon > rest.rfind("/"):
            name, tag = rest[:colon], rest[colon + 1 :]
            if not _TAG.fullmatch(tag):
                raise bad
        head, slash, tail = name.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost" or head.lower() != head):
            domain, path = head, tail
        else:
            domain, path = DEFAULT_DOMAIN, name
        if domain == "index.docker.io":
            domain = DEFAULT_DOMAIN
        if path.lower() != path:
            shown = "library/" + path if domain == DEFAULT_DOMAIN and "/" not in path else path
            raise InvalidArgument(f"invalid reference format: repository name ({shown}) must be lowercase")
        if not _DOMAIN_FORM.fullmatch(domain) or not _PATH.fullmatch(path):
            raise bad
        if domain == DEFAULT_DOMAIN and "/" not in path:
            path = "library/" + path
        if len(domain) + len(path) + 1 > 255:
            raise InvalidArgument("repository name must not be more than 255 characters")
        if not tag and not digest and default_tag:
            tag = DEFAULT_TAG
        return cls(domain, path, tag, digest)

    @property
    def familiar_name(self) -> str:
        """The repository as lists show it: `debian`, `me/app`, `localhost:5000/app`."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        return self.path.removeprefix("library/") if self.path.count("/") == 1 else self.path

    @property
    def repository(self) -> str:
        """The full repository name: `docker.io/library/debian`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """The reference as lists show it, with its tag or digest."""
        return self.familiar_name + self._suffix()

    def __str__(self) -> str:
        return self.repository + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")
