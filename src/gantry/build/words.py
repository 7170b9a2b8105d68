"""Splitting an instruction's text into words, JSON arrays and flags; quotes and escapes stay in the words."""

import json

from gantry.build.errors import DockerfileError


def split_words(text: str, escape: str) -> list[str]:
    """Words separated by white space; quotes hold words together."""
    words: list[str] = []
    current = ""
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if not quote and char.isspace():
            if current:
                words.append(current)
            current = ""
            continue
        current += char
        if char == escape and quote != "'" and at < len(text):
            current += text[at]
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
    if current:
        words.append(current)
    return words


def json_array(text: str, line: int) -> tuple[str, ...] | None:
    """The strings of a JSON array, None where the text is not one (then it is the shell form).

    Raises DockerfileError for an array that holds something else than strings.
    """
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, str) for item in value):
        raise DockerfileError(
            "failed to parse Dockerfile: when using JSON array syntax, arrays must be comprised of strings only",
            line=line,
            numbered=False,
        )
    # A lone surrogate is valid JSON and no text.
    return tuple(item.encode("utf-8", "replace").decode() for item in value)


def split_flags(text: str, escape: str) -> tuple[list[str], str]:
    """The leading `--flags` of an instruction, and what follows them."""
    flags: list[str] = []
    rest = text.lstrip()
    while rest.startswith("--"):
        at = 0
        flag = ""
        quote = ""
        while at < len(rest):
            char = rest[at]
            if not quote and char.isspace():
                break
            at += 1
            if char == escape and quote != "'" and at < len(rest):
                flag += rest[at]
                at += 1
            elif quote and char == quote:
                quote = ""
            elif not quote and char in "'\"":
                quote = char
            else:
                flag += char
        rest = rest[at:].lstrip()
        if flag == "--":
            break
        flags.append(flag)
    return flags, rest
