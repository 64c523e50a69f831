"""Imports run one way: from a room only to the rooms above it, and never in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

import crackclf

PACKAGE = Path(crackclf.__file__).parent
ROOMS = [
    *("errors", "files", "extras", "cores", "quiet", "images", "saved", "data", "evaluation"),
    *("prediction", "inspection", "models", "features", "training", "sample", "audit"),
    *("export", "ray", "torch", "app", "cli"),
]
ANSWERING = ROOMS[: ROOMS.index("models")]
CONVERTS = PACKAGE / "saved" / "convert.py"  # Made of Keras, and imported only to save a model.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE) + [
    path for path in sorted(PACKAGE.glob("*.py")) if path.stem in ROOMS
]


def name_of(path: Path) -> str:
    """`images.decode`, or `images` for its `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {name_of(path) for path in MODULES}


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def walk(node: ast.AST, functions: bool = True):
    """The nodes of a module that run: not those for type checkers, nor, when asked, functions."""
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if is_for_types(child) or (is_function and not functions):
            continue
        yield child
        yield from walk(child, functions)


def imports(path: Path, functions: bool = True) -> set[str]:
    """Full names of the modules that a module imports, e.g. `keras` or `crackclf.files`."""
    found = set()
    for node in walk(ast.parse(path.read_text(encoding="utf-8")), functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full.removeprefix("crackclf.") in NAMES
                found.add(full if is_module else str(node.module))
    return found


def own(path: Path) -> set[str]:
    """Names of the modules of crackclf that a module imports, functions included."""
    return {
        name.removeprefix("crackclf.") for name in imports(path) if name.startswith("crackclf.")
    }


def test_the_list_of_rooms_is_whole():
    assert {name.partition(".")[0] for name in NAMES} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_above_it(room):
    above = ROOMS[: ROOMS.index(room) + 1]
    for path in MODULES:
        if name_of(path).partition(".")[0] == room:
            wrong = {name for name in own(path) if name.partition(".")[0] not in above}
            assert not wrong, f"{path} imports {sorted(wrong)}, which stand below it"


def test_no_modules_import_one_another_in_a_circle():
    tree = {name_of(path): own(path) - {name_of(path)} for path in MODULES}
    list(graphlib.TopologicalSorter(tree).static_order())


@pytest.mark.parametrize("room", ANSWERING)
def test_the_answering_half_imports_no_framework_when_it_starts(room):
    for path in MODULES:
        if name_of(path).partition(".")[0] == room and path != CONVERTS:
            found = {name.partition(".")[0] for name in imports(path, functions=False)}
            assert not found & {"tensorflow", "keras", "torch", "ray"}, path


def test_the_converter_is_imported_only_inside_functions():
    for path in MODULES:
        if name_of(path).partition(".")[0] in ANSWERING:
            assert "crackclf.saved.convert" not in imports(path, functions=False), path
