"""Imports run one way: a module imports only what stands above it in the list."""

import ast
from pathlib import Path

import pytest

import crackclf

PACKAGE = Path(crackclf.__file__).parent
ORDER = [
    *("quiet", "errors", "files", "images", "listing", "splits", "folders", "data", "download"),
    *("sample", "calibration", "evaluation", "curves", "plots", "litert", "conversion", "saving"),
    *("prediction", "augmentation", "backbones", "model", "ensemble", "callbacks", "features"),
    *("settings", "training", "pipeline", "photos", "audit", "compare", "export"),
    *("app", "cli"),
]
ANSWERING = {*ORDER[: ORDER.index("augmentation")], "photos"} - {"data", "conversion"}
FILES = sorted(PACKAGE.rglob("*.py"))[1:]  # Without `__init__.py` of the package.
FRAMEWORKS = {"keras", "tensorflow", "torch", "ray", "gradio"}


def imports(path: Path, inside_functions: bool) -> set[str]:
    """Full names of what a module imports, without imports for type checkers only."""
    found, left = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while left:
        for node in ast.iter_child_nodes(left.pop()):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module == "crackclf":
                found |= {f"crackclf.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module))
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            elif inside_functions or not isinstance(node, ast.FunctionDef | ast.Lambda):
                left.append(node)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_above_it(path):
    full = imports(path, inside_functions=True)
    module = path.relative_to(PACKAGE).with_suffix("").parts[0]
    own = {name.split(".")[1] for name in full if name.startswith("crackclf.")}
    assert own <= {*ORDER[: ORDER.index(module) + 1], "__version__"}
    if module in ANSWERING:
        found = imports(path, inside_functions=False)
        assert not {name.split(".")[0] for name in found} & FRAMEWORKS
