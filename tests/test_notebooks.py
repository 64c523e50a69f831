import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


PICTURES = {
    "01_train_mobilenetv2": 7,
    "02_compare_vgg16_resnet50": 5,
    "03_resnet18_pytorch": 3,
    "04_overfitting": 3,
}
# What would take too long here, in place of what is in the cell tagged so.
PARAMETERS = {
    "04_overfitting": "IMAGE_SIZE, EPOCHS, SEEDS = 32, 2, [0]\n"
    "BASE = {'backbone': 'vgg16-block4', 'weights': None}"
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_top_to_bottom(path, sample, weights_folder, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    ignored = shutil.ignore_patterns(".crackclf")
    if path.stem.startswith(("02", "03")):
        # Where these notebooks find their own sample, for which they need no weights.
        shutil.copytree(sample, tmp_path / "data" / "sample-small", ignore=ignored)
        monkeypatch.delenv("CRACKCLF_DATA", raising=False)
    else:
        shutil.copytree(sample, tmp_path / "images", ignore=ignored)
        monkeypatch.setenv("CRACKCLF_DATA", str(tmp_path / "images"))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel sets its own
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(weights_folder))
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = PARAMETERS[path.stem]
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path / "notebooks")}},
    ).execute()
    assert list((tmp_path / "saved_models").glob("*/model.*"))
    assert list((tmp_path / "logs").glob("**/train/events*"))
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == PICTURES[path.stem]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_cells_without_outputs_or_functions(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert not any("def " in cell.source for cell in cells)
    lengths = sorted(len(cell.source.splitlines()) for cell in cells)
    assert lengths[len(lengths) // 2] <= 5
