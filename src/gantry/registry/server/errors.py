"""The registry's errors: codes, status numbers, JSON envelope (OCI distribution specification, "Error Codes")."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gantry.errors import GantryError

CODES: Mapping[str, tuple[int, str]] = {
    "BLOB_UNKNOWN": (404, "blob unknown to registry"),
    "BLOB_UPLOAD_INVALID": (400, "blob upload invalid"),
    "BLOB_UPLOAD_UNKNOWN": (404, "blob upload unknown to registry"),
    "DENIED": (403, "requested access to the resource is denied"),
    "DIGEST_INVALID": (400, "provided digest did not match uploaded content"),
    "MANIFEST_BLOB_UNKNOWN": (404, "manifest references a manifest or blob unknown to registry"),
    "MANIFEST_INVALID": (400, "manifest invalid"),
    "MANIFEST_UNKNOWN": (404, "manifest unknown to registry"),
    "NAME_INVALID": (400, "invalid repository name"),
    "NAME_UNKNOWN": (404, "repository name not known to registry"),
    "PAGINATION_NUMBER_INVALID": (400, "invalid number of results requested"),
    "RANGE_INVALID": (416, "invalid content range"),
    "SIZE_INVALID": (400, "provided length did not match content length"),
    "TAG_INVALID": (400, "manifest tag did not match URI"),
    "TOOMANYREQUESTS": (429, "too many requests"),
    "UNAUTHORIZED": (401, "authentication required"),
    "UNAVAILABLE": (503, "service unavailable"),
    "UNKNOWN": (500, "unknown error"),
    "UNSUPPORTED": (405, "the operation is unsupported"),
}
"""Code -> (HTTP status, message). The messages are those that clients of Distribution have seen for years."""


class RegistryError(GantryError):
    """An answer of the distribution protocol other than success. `detail` says on what, for people."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        status: int = 0,
        message: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        known_status, known_message = CODES[code]
        self.code = code
        self.status = status or known_status
        self.detail = detail
        self.headers = dict(headers or {})
        self.text = message or known_message
        super().__init__(f"{self.text}: {detail}" if detail else self.text)

    def body(self) -> bytes:
        error: dict[str, Any] = {"code": self.code, "message": self.text}
        if self.detail:
            error["detail"] = str(self.detail)
        return msgspec.json.encode({"errors": [error]})
