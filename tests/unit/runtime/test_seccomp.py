"""System call filters: the default one, and profiles in Docker's form."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.errors import InvalidArgument
from gantry.runtime.seccomp import compile_profile, default_filter


def allowed(filters: dict[str, object], call: str) -> list[dict[str, object]]:
    calls: list[dict[str, object]] = filters["syscalls"]  # type: ignore[assignment]
    return [entry for entry in calls if call in entry["names"]]  # type: ignore[operator]


def test_default_refuses_what_is_not_listed() -> None:
    filters = default_filter("amd64", (6, 1), frozenset())
    assert (filters["defaultAction"], filters["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert filters["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    for call in ("mount", "keyctl", "add_key", "kexec_load", "io_uring_setup", "userfaultfd", "bpf", "unshare"):
        assert allowed(filters, call) == [], call
    for call in ("read", "execve", "openat", "futex", "ptrace", "arch_prctl"):
        assert allowed(filters, call) != [], call


def test_namespaces_need_a_capability() -> None:
    without = default_filter("amd64", (6, 1), frozenset())
    assert [entry.get("args") for entry in allowed(without, "clone")] == [
        [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0x7E020000, "valueTwo": 0}]
    ]
    assert allowed(without, "clone3")[0] | {"names": []} == {"names": [], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    with_it = default_filter("amd64", (6, 1), frozenset({"CAP_SYS_ADMIN"}))
    assert [entry.get("args") for entry in allowed(with_it, "clone")] == [None]
    assert allowed(with_it, "mount") != []
    assert [entry["action"] for entry in allowed(with_it, "clone3")] == ["SCMP_ACT_ALLOW"]


def test_architecture_and_kernel_conditions() -> None:
    assert allowed(default_filter("amd64", (4, 7), frozenset()), "ptrace") == []
    assert allowed(default_filter("arm64", (6, 1), frozenset()), "arch_prctl") == []
    s390 = allowed(default_filter("s390x", (6, 1), frozenset()), "clone")
    assert [entry["args"][0]["index"] for entry in s390] == [1]  # type: ignore[index]


def test_alg_sockets_are_refused() -> None:
    arguments = [entry["args"] for entry in allowed(default_filter("amd64", (6, 1), frozenset()), "socket")]
    assert [(one[0]["op"], one[0]["value"]) for one in arguments] == [  # type: ignore[index]
        ("SCMP_CMP_LT", 38),
        ("SCMP_CMP_EQ", 39),
        ("SCMP_CMP_GT", 40),
    ]


PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 2,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": None},
    ],
    "syscalls": [
        {"names": ["a"], "action": "SCMP_ACT_ALLOW", "comment": "gone"},
        {"name": "b", "action": "SCMP_ACT_ALLOW", "args": None},
        {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_X", "CAP_Y"]}},
        {"names": ["d"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_X"]}},
        {"names": ["e"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {"names": ["f"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.10"}},
        {"names": ["g"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.10"}},
        {"names": ["h"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"arches": ["amd64"]}},
    ],
}


def compiled(architecture: str, kernel: tuple[int, int], *capabilities: str) -> str:
    result = compile_profile(json.dumps(PROFILE), architecture, kernel, capabilities)
    assert result is not None
    return "".join(name for entry in result["syscalls"] for name in entry["names"])


def test_conditions_of_a_profile() -> None:
    assert compiled("amd64", (5, 9)) == "abdg"
    assert compiled("amd64", (5, 10), "CAP_X") == "abf"
    assert compiled("amd64", (6, 1), "CAP_X", "CAP_Y") == "abcf"
    assert compiled("arm64", (6, 1)) == "abdefh"


def test_architectures_come_from_the_map() -> None:
    result = compile_profile(json.dumps(PROFILE), "amd64", (6, 1), ())
    assert result is not None
    assert result["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert result["defaultErrnoRet"] == 2
    assert "comment" not in result["syscalls"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["SCMP_ARCH_X86"]}, "both 'architectures' and 'archMap' are specified"),
        ({"syscalls": [{"name": "a", "names": ["b"]}]}, "both 'name' and 'names' are specified"),
        ({"syscalls": "all"}, "syscalls is not a list"),
        ({"syscalls": [1]}, "not an object"),
        ({"syscalls": [{"names": ["a"], "includes": []}, {"names": ["b"], "includes": "x"}]}, "are objects"),
        ({"syscalls": [{"names": ["a"], "includes": {"minKernel": "new"}}]}, "invalid kernel version"),
    ],
)
def test_bad_profiles(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        compile_profile(json.dumps(PROFILE | change), "amd64", (6, 1), ())


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"syscalls": []}', "[" * 100_000])
def test_what_is_no_profile(text: str) -> None:
    with pytest.raises(InvalidArgument, match="Decoding seccomp profile failed"):
        compile_profile(text, "amd64", (6, 1), ())


def test_an_empty_profile_is_none() -> None:
    assert compile_profile("{}", "amd64", (6, 1), ()) is None


_KEYS = st.sampled_from(["defaultAction", "syscalls", "names", "name", "includes", "caps", "archMap", "minKernel"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner),
    max_leaves=12,
)


@settings(deadline=None)
@given(json_values)
def test_any_json_is_compiled_or_refused(value: object) -> None:
    with contextlib.suppress(InvalidArgument):
        compile_profile(json.dumps(value), "amd64", (6, 1), ())
