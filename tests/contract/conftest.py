"""Where a registry's contract is tested: files, and an object store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.registry_server import bucket_of, object_store, storage_of


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    pytest.importorskip("moto.server", reason="moto's server, the object store of these tests, is not installed")
    with object_store() as endpoint:
        yield endpoint


@pytest.fixture(params=["filesystem", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The `storage` section of a registry's configuration, for an empty storage of each kind."""
    if request.param == "filesystem":
        return storage_of(tmp_path / "registry")
    return bucket_of(request.getfixturevalue("s3_endpoint"), tmp_path / "staging")


@pytest.fixture
def files(tmp_path: Path) -> str:
    """The same for files alone: what does not depend on the storage need not be tested on each."""
    return storage_of(tmp_path / "registry")
