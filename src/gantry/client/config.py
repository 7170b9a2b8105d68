"""The client's configuration: config.json in the configuration directory."""

from __future__ import annotations

import os

from gantry.client import jsontext
from gantry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ConfigError(ClientError):
    """config.json cannot be read or written."""


def path(config_dir: str) -> str:
    return config_dir + "/config.json"


def load(config_dir: str) -> dict[str, Any]:
    """The parsed file, {} where there is none; raises ConfigError."""
    name = path(config_dir)
    try:
        with open(name, "rb") as file:
            text = file.read()
        config = jsontext.decode(text) if text.strip() else {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"Error loading config file: {name}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"Error loading config file: {name}: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"Error loading config file: {name}: not a JSON object")
    return config


def save(config_dir: str, config: dict[str, Any]) -> None:
    """Replace the file in one step; it is readable by its owner alone, as it may hold credentials."""
    import json

    name = path(config_dir)
    try:
        os.makedirs(config_dir, mode=0o700, exist_ok=True)
        target = os.path.realpath(name)
        temporary = f"{target}.{os.getpid()}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(config, indent="\t", ensure_ascii=False))
        os.replace(temporary, target)
    except OSError as error:
        raise ConfigError(f"Error saving config file: {name}: {error.strerror}") from error
