"""The Container Device Interface: specifications, requests, what is injected."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.model.container import DeviceRequest
from gantry.runtime.cdi import Registry, inject, names_of


def specification(kind: str, **devices: dict[str, Any]) -> dict[str, Any]:
    return {
        "cdiVersion": "0.6.0",
        "kind": kind,
        "containerEdits": {"env": ["SHARED=1"]},
        "devices": [{"name": name, "containerEdits": edits} for name, edits in devices.items()],
    }


def write(directory: Path, name: str, document: Any) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(json.dumps(document))


def configuration() -> dict[str, Any]:
    return {
        "process": {"env": ["PATH=/bin", "MODE=old"], "user": {"uid": 0}},
        "mounts": [],
        "linux": {"devices": [], "resources": {"devices": [{"allow": False, "access": "rwm"}]}},
    }


def test_everything_that_a_device_brings(tmp_path: Path) -> None:
    one = {
        "env": ["MODE=new"],
        "deviceNodes": [
            {"path": "/dev/given", "type": "c", "major": 42, "minor": 1, "fileMode": 384, "permissions": "r", "uid": 5},
            {"path": "/dev/copy", "hostPath": "/dev/null"},
        ],
        "mounts": [{"hostPath": "/usr/lib", "containerPath": "/vendor", "options": ["ro", "bind"]}],
        "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "x"], "timeout": 3}],
        "additionalGids": [44],
    }
    write(tmp_path / "a", "vendor.json", specification("vendor.com/class", one=one))
    document = configuration()
    inject(document, Registry.load([str(tmp_path / "a")]).edits(["vendor.com/class=one"]))
    assert document["process"]["env"] == ["PATH=/bin", "SHARED=1", "MODE=new"]
    nodes = {entry["path"]: entry for entry in document["linux"]["devices"]}
    assert nodes["/dev/given"] == {
        "path": "/dev/given", "type": "c", "major": 42, "minor": 1, "fileMode": 384, "uid": 5, "gid": 0,
    }  # fmt: skip
    assert (nodes["/dev/copy"]["major"], nodes["/dev/copy"]["minor"]) == (1, 3)
    assert {"allow": True, "type": "c", "major": 42, "minor": 1, "access": "r"} in document["linux"]["resources"][
        "devices"
    ]
    assert document["mounts"] == [
        {"destination": "/vendor", "type": "bind", "source": "/usr/lib", "options": ["ro", "bind"]}
    ]
    assert document["hooks"]["createContainer"] == [
        {"path": "/bin/hook", "args": ["hook", "x"], "env": [], "timeout": 3}
    ]
    assert document["process"]["user"]["additionalGids"] == [44]


def test_yaml_and_the_later_directory_wins(tmp_path: Path) -> None:
    write(tmp_path / "a", "v.json", specification("vendor.com/class", one={"env": ["FROM=a"]}, two={}))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "v.yaml").write_text(
        "cdiVersion: 0.5.0\nkind: vendor.com/class\ndevices:\n- name: one\n  containerEdits:\n    env:\n    - FROM=b\n"
    )
    found = Registry.load([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "absent")])
    assert sorted(found.devices) == ["vendor.com/class=one", "vendor.com/class=two"]
    assert [each.env for each in found.edits(["vendor.com/class=one"])] == [[], ["FROM=b"]]
    assert not found.problems


def test_what_several_devices_share_is_added_once(tmp_path: Path) -> None:
    write(tmp_path, "v.json", specification("vendor.com/class", one={"env": ["A=1"]}, two={"env": ["B=2"]}))
    edits = Registry.load([str(tmp_path)]).edits(["vendor.com/class=one", "vendor.com/class=two"])
    assert [each.env for each in edits] == [["SHARED=1"], ["A=1"], ["B=2"]]


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Registry.load([str(tmp_path)]).edits(["vendor.com/class=x", "b.com/c=y"])
    assert caught.value.message == "CDI device injection failed: unresolvable CDI devices vendor.com/class=x, b.com/c=y"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cdiVersion": "0.6.0", "kind": "no-slash", "devices": []}',
        '{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [{"name": "../x"}]}',
        '{"cdiVersion": "1", "kind": "v.com/c", "devices": [{"name": "x", "containerEdits": {"hooks": [{"hookName": "no", "path": "/x"}]}}]}',
    ],
)
def test_bad_files_are_told_and_the_others_are_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    write(tmp_path, "good.json", specification("vendor.com/class", one={}))
    found = Registry.load([str(tmp_path)])
    assert list(found.devices) == ["vendor.com/class=one"]
    assert len(found.problems) == 1
    assert "bad.json" in found.problems[0]


@given(st.text(max_size=60))
def test_any_yaml_is_read_or_told(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "x.yaml").write_text(text)
        found = Registry.load([directory])
        assert not found.devices
        assert found.problems


class TestRequests:
    def registry(self, *names: str) -> Registry:
        made = Registry()
        made.devices = dict.fromkeys(names, ())
        return made

    def test_by_name(self) -> None:
        request = DeviceRequest(driver="cdi", device_ids=["a.com/b=c"])
        assert names_of([request], self.registry()) == ["a.com/b=c"]

    @pytest.mark.parametrize(
        ("request_", "names"),
        [
            (DeviceRequest(count=-1, capabilities=[["gpu"]]), ["nvidia.com/gpu=all"]),
            (DeviceRequest(count=2, capabilities=[["gpu"]]), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]),
            (DeviceRequest(device_ids=["1"], capabilities=[["gpu"]]), ["nvidia.com/gpu=1"]),
            (DeviceRequest(driver="nvidia", count=1, capabilities=[["gpu"]]), ["nvidia.com/gpu=0"]),
        ],
    )
    def test_gpus(self, request_: DeviceRequest, names: list[str]) -> None:
        assert names_of([request_], self.registry("nvidia.com/gpu=0", "amd.com/gpu=0")) == names

    def test_gpus_of_another_maker(self) -> None:
        request = DeviceRequest(count=-1, capabilities=[["gpu"]])
        assert names_of([request], self.registry("amd.com/gpu=all")) == ["amd.com/gpu=all"]

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            (
                DeviceRequest(count=-1, capabilities=[["gpu"]]),
                'could not select device driver "" with capabilities: [[gpu]]',
            ),
            (DeviceRequest(driver="x"), 'could not select device driver "x" with capabilities: []'),
        ],
    )
    def test_none(self, request_: DeviceRequest, message: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            names_of([request_], self.registry("vendor.com/class=one"))
        assert caught.value.message == message
