"""API versions: what is spoken, and what differs between them."""

import re

from gantry import API_VERSION, MIN_API_VERSION
from gantry.errors import InvalidArgument

Version = tuple[int, int]

PREFIX = re.compile(r"/v([0-9][0-9.]*)(?=/)")


class VersionTooOld(InvalidArgument):
    """Docker answers this one in plain text, as clients of that age expect."""


def parse(text: str) -> Version:
    """`1.41` as (1, 41); what is beyond the second number does not count, what is missing is 0."""
    numbers = [int(part) for part in text.split(".") if part]
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0) if numbers else (0, 0)


MINIMUM = parse(MIN_API_VERSION)
MAXIMUM = parse(API_VERSION)


def negotiate(text: str) -> Version:
    """The version of one request's path; raises InvalidArgument with Docker's words outside the range."""
    version = parse(text)
    if version < MINIMUM:
        raise VersionTooOld(
            f"client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, "
            "please upgrade your client to a newer version"
        )
    if version > MAXIMUM:
        raise InvalidArgument(f"client version {text} is too new. Maximum supported API version is {API_VERSION}")
    return version
