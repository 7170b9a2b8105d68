"""Identifiers: 64 hexadecimal digits, shown as twelve."""

import re
import secrets

ID_FORM = re.compile(r"[0-9a-f]{64}")
NAME_FORM = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


def new_id() -> str:
    """A fresh identifier whose short form is not a number (a hostname must not be one)."""
    while True:
        value = secrets.token_hex(32)
        if not value[:12].isdecimal():
            return value


def short_id(value: str) -> str:
    """The twelve digits that lists show, of an identifier or a digest."""
    return value.partition(":")[2][:12] if ":" in value else value[:12]
