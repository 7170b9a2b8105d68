"""Manifest lists that are being put together: files below `manifests` in the configuration directory, as Docker's are.

A list is a directory, each of its manifests a file with the reference, the descriptor and the manifest itself.
"""

from __future__ import annotations

import base64
import json
import os
import shutil

from gantry.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gantry.model.reference import Reference

_OCI = "application/vnd.oci.image.manifest.v1+json"


class ManifestStore:
    """The lists of one configuration directory. Raises CommandError where files cannot be read or written."""

    def __init__(self, config_dir: str) -> None:
        self._root = os.path.join(config_dir, "manifests")

    def _directory(self, target: Reference) -> str:
        return os.path.join(self._root, _file_name(target))

    def images(self, target: Reference) -> list[dict[str, Any]]:
        """The entries of a list in their order by reference, [] where there is no such list."""
        directory = self._directory(target)
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CommandError(f"open {directory}: {os.strerror(error.errno or 0).lower()}") from error
        return [_read(os.path.join(directory, name)) for name in names]

    def image(self, target: Reference, image: Reference) -> dict[str, Any] | None:
        path = os.path.join(self._directory(target), _file_name(image))
        return _read(path) if os.path.exists(path) else None

    def save(self, target: Reference, image: Reference, entry: dict[str, Any]) -> None:
        directory = self._directory(target)
        path = os.path.join(directory, _file_name(image))
        try:
            os.makedirs(directory, mode=0o755, exist_ok=True)
            temporary = f"{path}.{os.getpid()}.new"
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(entry, file, separators=(",", ":"))
            os.replace(temporary, path)
        except OSError as error:
            raise CommandError(f"write {path}: {os.strerror(error.errno or 0).lower()}") from error

    def remove(self, target: Reference) -> None:
        shutil.rmtree(self._directory(target), ignore_errors=True)


def _file_name(reference: Reference) -> str:
    return str(reference).replace(":", "-").replace("/", "_")


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            entry = json.load(file)
        base64.b64decode(entry["Raw"], validate=True)
        entry["Descriptor"]["digest"].partition(":")
    except OSError as error:
        raise CommandError(f"open {path}: {os.strerror(error.errno or 0).lower()}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"{path} is no manifest that `manifest create` has written: {error}") from error
    return dict(entry)


def entry_of(reference: str, descriptor: dict[str, Any], data: bytes) -> dict[str, Any]:
    """One entry, as Docker writes it and `manifest inspect -v` shows it."""
    kind = "OCIManifest" if descriptor["mediaType"] == _OCI else "SchemaV2Manifest"
    return {
        "Ref": reference,
        "Descriptor": descriptor,
        "Raw": base64.b64encode(data).decode(),
        kind: json.loads(data),
    }


def list_of(entries: list[dict[str, Any]]) -> tuple[str, bytes]:
    """The media type and the bytes of the list that entries make."""
    oci = any(entry["Descriptor"]["mediaType"] == _OCI for entry in entries)
    media_type = (
        "application/vnd.oci.image.index.v1+json"
        if oci
        else "application/vnd.docker.distribution.manifest.list.v2+json"
    )
    return media_type, shown({"schemaVersion": 2, "mediaType": media_type, "manifests": [_part(e) for e in entries]})


def _part(entry: dict[str, Any]) -> dict[str, Any]:
    descriptor = entry["Descriptor"]
    return {
        "mediaType": descriptor["mediaType"],
        "size": descriptor["size"],
        "digest": descriptor["digest"],
        "platform": in_order(descriptor.get("platform") or {}),
    }


def in_order(platform: dict[str, Any]) -> dict[str, Any]:
    """A platform's fields in the order in which Docker writes them; a list's digest depends on it."""
    order = ("architecture", "os", "os.version", "os.features", "variant")
    return {key: platform[key] for key in order if platform.get(key)}


def shown(document: dict[str, Any]) -> bytes:
    """A list's bytes: indented by three, which is part of its digest."""
    return json.dumps(document, indent=3, ensure_ascii=False).encode()
