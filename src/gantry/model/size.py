"""Sizes as Docker's users write them."""

import re

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)i?b?", re.IGNORECASE)


def parse_bytes(text: str, base: int = 1024) -> int | None:
    """Bytes of `64m`, `64MiB`, `1.5g` or a number, in powers of `base`; None for what is no size."""
    found = _SIZE.fullmatch(text.strip())
    return int(float(found[1]) * base ** " kmgtp".index(found[2].lower() or " ")) if found else None
