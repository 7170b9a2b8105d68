"""`gantry manifest` against a registry in a thread; no daemon takes part. Expectations were taken from Docker."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lib.archives import member, tar
from lib.registry import OCI_INDEX, FakeRegistry, serving

Gantry = Callable[..., tuple[int, str, str]]


@pytest.fixture
def registry() -> FakeRegistry:
    made = FakeRegistry()
    made.add_image("app", "amd64", [tar(member("a", b"1"))], architecture="amd64")
    made.add_image("app", "arm64", [tar(member("a", b"2"))], architecture="arm64", variant="v8")
    return made


@pytest.fixture
def place(registry: FakeRegistry) -> Iterator[str]:
    with serving(registry) as port:
        yield f"127.0.0.1:{port}"


def test_a_list_from_begin_to_end(gantry: Gantry, registry: FakeRegistry, place: str, tmp_path: Path) -> None:
    target, amd, arm = f"{place}/multi:1", f"{place}/app:amd64", f"{place}/app:arm64"
    assert gantry("manifest", "create", target, amd) == (0, f"Created manifest list {target}\n", "")
    status, _, problem = gantry("manifest", "create", target, arm)
    assert (status, problem) == (1, "refusing to amend an existing manifest list with no --amend flag\n")
    assert gantry("manifest", "create", "--amend", target, arm)[0] == 0
    assert gantry("manifest", "annotate", target, arm, "--os-features", "x,y", "--os-version", "6")[0] == 0
    status, _, problem = gantry("manifest", "annotate", target, arm, "--arch", "foo")
    assert problem == "manifest entry for image has unsupported os/arch combination: /foo\n"
    status, _, problem = gantry("manifest", "annotate", target, "other", "--arch", "arm")
    assert problem == f"manifest for image other does not exist in {target}\n"
    name = target.replace(":", "-").replace("/", "_")
    assert len(list((tmp_path / "config/manifests" / name).iterdir())) == 2
    local = gantry("manifest", "inspect", target)[1]
    assert json.loads(local)["manifests"][1]["platform"] == {
        "architecture": "arm64", "os": "linux", "os.version": "6", "os.features": ["x", "y"], "variant": "v8",
    }  # fmt: skip
    status, out, _ = gantry("manifest", "push", "--purge", target)
    media_type, data = registry.manifests["multi", "1"]
    assert (status, media_type, data.decode() + "\n") == (0, OCI_INDEX, local)
    assert [line.partition("@")[0] for line in out.splitlines()[:2]] == [f"Pushed ref {place}/multi"] * 2
    assert gantry("manifest", "rm", target) == (1, "", f"No such manifest: {target}\n")
    assert gantry("manifest", "inspect", target)[1] == local, "now from the registry"
    shown = json.loads(gantry("manifest", "inspect", "-v", target)[1])
    assert [entry["Descriptor"]["platform"]["architecture"] for entry in shown] == ["amd64", "arm64"]


def test_inspect(gantry: Gantry, registry: FakeRegistry, place: str) -> None:
    status, out, _ = gantry("manifest", "inspect", f"{place}/app:arm64")
    assert (status, json.loads(out)) == (0, json.loads(registry.manifests["app", "arm64"][1]))
    entry = json.loads(gantry("manifest", "inspect", "-v", f"{place}/app:arm64")[1])
    assert entry["Ref"] == f"{place}/app:arm64"
    assert entry["Descriptor"]["platform"] == {"architecture": "arm64", "os": "linux", "variant": "v8"}
    assert gantry("manifest", "inspect", f"{place}/app:none") == (1, "", f"no such manifest: {place}/app:none\n")
    assert gantry("manifest", "push", "none") == (1, "", "No such manifest: none:latest\n")
    registry.add_index("app", "all", {"linux/amd64": "amd64"})
    status, _, problem = gantry("manifest", "create", f"{place}/x:1", f"{place}/app:all")
    assert (status, problem) == (1, f"{place}/app:all is a manifest list\n")
    assert gantry("manifest", "create", "elsewhere.test/x:1", f"{place}/app:amd64")[0] == 0
    status, _, problem = gantry("manifest", "push", "elsewhere.test/x:1")
    assert "cannot use source images from a different registry than the target image" in problem
