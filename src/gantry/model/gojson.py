"""Go's words for text that is no JSON."""

import json

_PLACES = (
    ("Expecting value", "looking for beginning of value"),
    ("Expecting property name", "looking for beginning of object key string"),
    ("Illegal trailing comma before end of object", "looking for beginning of object key string"),
    ("Illegal trailing comma before end of array", "looking for beginning of value"),
    ("Expecting ':' delimiter", "after object key"),
    ("Expecting ',' delimiter", "after object key:value pair"),
    ("Extra data", "after top-level value"),
    ("Invalid control character", "in string literal"),
    ("Invalid \\escape", "in string escape code"),
)


def json_error(error: json.JSONDecodeError) -> str:
    """What Go's decoder says of the text that Python's has refused."""
    text, at = error.doc, error.pos
    if at >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return "unexpected end of JSON input"
    for literal in ("true", "false", "null"):
        if error.msg == "Expecting value" and text[at] == literal[0]:
            wrong = next((i for i, char in enumerate(literal) if text[at + i : at + i + 1] != char), 0)
            if at + wrong >= len(text):
                return "unexpected end of JSON input"
            return f"invalid character '{text[at + wrong]}' in literal {literal} (expecting '{literal[wrong]}')"
    where = next((words for start, words in _PLACES if error.msg.startswith(start)), "in JSON text")
    return f"invalid character '{text[at]}' {where}"
