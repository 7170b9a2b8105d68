"""Makers of tars and image archives, good and bad."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", **fields: Any) -> Member:
    """A file, or with `type` something else."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mtime = 1_700_000_000
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def directory(name: str, **fields: Any) -> Member:
    return member(name, type=tarfile.DIRTYPE, mode=fields.pop("mode", 0o755), **fields)


def symlink(name: str, target: str) -> Member:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Member:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*members: Member, format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config(diff_ids: Sequence[str], **fields: Any) -> bytes:
    document = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, **fields}
    return json.dumps(document | {"rootfs": {"type": "layers", "diff_ids": list(diff_ids)}}).encode()


def docker_archive(
    layers: Sequence[bytes],
    *tags: str,
    diff_ids: Sequence[str] | None = None,
    files: Mapping[str, bytes] | None = None,
    **fields: Any,
) -> bytes:  # fmt: skip
    """What Docker wrote before it knew OCI; `files` replace members by name."""
    about = config([sha256(layer) for layer in layers] if diff_ids is None else diff_ids, **fields)
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": list(tags), "Layers": names}]).encode()
    members = {"config.json": about, **dict(zip(names, layers, strict=True)), "manifest.json": manifest}
    return tar(*(member(name, data) for name, data in (members | dict(files or {})).items()))


def oci_archive(layers: Sequence[tuple[bytes, str]], name: str, diff_ids: Sequence[str], **fields: Any) -> bytes:
    """An OCI image layout of one image; `layers` are blobs with their media types."""
    about = config(diff_ids, **fields)
    blobs = {sha256(about): about} | {sha256(data): data for data, _ in layers}
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor(about, "application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor(data, media_type) for data, media_type in layers],
        }
    ).encode()
    blobs[sha256(manifest)] = manifest
    entry = descriptor(manifest, "application/vnd.oci.image.manifest.v1+json")
    if name:
        entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    return tar(
        member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        member("index.json", index),
        *(member("blobs/" + digest.replace(":", "/"), data) for digest, data in blobs.items()),
    )


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}
