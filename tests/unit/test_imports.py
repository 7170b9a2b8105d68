"""Who imports whom: the table of docs/architecture.md, held against the imports of every file."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "gantry"

# Everyone may import these.
COMMON = {"model", "errors", "aio", "trace", "faults", ""}

ALLOWED: dict[str, set[str]] = {
    "model": set(),
    "errors": set(),
    "aio": set(),
    "trace": set(),
    "faults": set(),
    "": set(),
    "wire": set(),
    "ports": set(),
    "linux": set(),
    "oci": {"ports", "linux"},
    "store": {"ports", "linux", "oci"},
    "runtime": {"ports", "linux", "oci"},
    "network": {"ports", "linux", "oci"},
    "volumes": {"ports", "linux", "oci"},
    "logs": {"ports", "linux", "oci"},
    "registry": {"ports", "oci"},
    "engine": {"ports", "oci"},
    "build": {"ports", "linux", "oci"},
    "api": {"wire", "engine", "build", "ports"},
    "daemon": {
        "wire", "ports", "linux", "oci", "store", "runtime", "network", "volumes", "logs", "registry", "engine",
        "build", "api",
    },
    "client": {"wire"},
    "compose": {"client"},
    "cli": {"client", "compose", "registry"},
}  # fmt: skip


def room_of(module: str) -> str:
    """`gantry.api.app` is of the room `api`; `gantry` itself of "" (version and API numbers)."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    """Every gantry module that a file imports, wherever in the file it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            if node.module == "gantry":
                found.update(
                    f"gantry.{alias.name}" if (SOURCE / alias.name).is_dir() or (SOURCE / f"{alias.name}.py").exists()
                    else "gantry"
                    for alias in node.names
                )  # fmt: skip
            else:
                found.add(node.module)
    return {module for module in found if module == "gantry" or module.startswith("gantry.")}


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    relative = path.relative_to(SOURCE)
    room = relative.parts[0].removesuffix(".py")
    room = "" if room == "__init__" else room
    allowed = ALLOWED[room] | COMMON | {room}
    wrong = {module for module in imports(path) if room_of(module) not in allowed}
    assert not wrong, f"{relative} imports {', '.join(sorted(wrong))}"


def test_every_room_is_in_the_table() -> None:
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES} - {"__init__"}
    assert rooms <= ALLOWED.keys()


@pytest.mark.parametrize(
    "statement",
    ["import asyncio\nasyncio.create_task(x)", "asyncio.ensure_future(x)", "try:\n    x\nexcept Exception:\n    pass"],
)
def test_the_rules_below_find_what_they_look_for(statement: str) -> None:
    assert list(broken_rules(ast.parse(statement)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_ownerless_task_and_no_swallowed_error(path: Path) -> None:
    broken = list(broken_rules(ast.parse(path.read_text("utf-8"))))
    assert not broken, f"{path.relative_to(SOURCE)}: {', '.join(broken)}"


def broken_rules(tree: ast.AST) -> "list[str]":
    broken = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "asyncio"
            and node.attr in ("create_task", "ensure_future")
        ):
            broken.append(f"line {node.lineno}: a task without owner")
        if isinstance(node, ast.ExceptHandler) and all(isinstance(each, ast.Pass) for each in node.body):
            kind = node.type
            if kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")):
                broken.append(f"line {node.lineno}: a swallowed error")
    return broken
