import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from crackclf.sample.make import make_photo

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


PICTURES = {
    "01_train_mobilenetv2": 8,
    "02_compare_vgg16_resnet50": 5,
    "03_resnet18_pytorch": 3,
    "04_overfitting": 3,
    "05_inspect_site_photos": 6,
    "06_few_uneven_images": 3,
}
# What each leaves behind; the fifth trains nothing.
LEFT = {"05_inspect_site_photos": ["inspection-*/report.html"]}
# What would take too long here is set anew after the cell tagged so.
PARAMETERS = {
    "02_compare_vgg16_resnet50": "IMAGE_SIZE, EPOCHS = 32, 1\n"
    "NAMES = ['vgg16-block4', 'mobilenetv2']",
    "03_resnet18_pytorch": "IMAGE_SIZE, ITERATIONS = 32, 5",
    "04_overfitting": "IMAGE_SIZE, EPOCHS, SEEDS = 32, 2, [0]\n"
    "BASE = {'backbone': 'vgg16-block4', 'weights': None}",
    "06_few_uneven_images": "SETTINGS |= {'image_size': 32, 'epochs': 1, 'folds': 3}",
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_top_to_bottom(path, sample, weights_folder, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    ignored = shutil.ignore_patterns(".crackclf")
    if path.stem.startswith(("02", "03")):
        # Where these notebooks find their own sample, for which they need no weights.
        shutil.copytree(sample, tmp_path / "data" / "sample-small", ignore=ignored)
        monkeypatch.delenv("CRACKCLF_DATA", raising=False)
    elif path.stem.startswith("05"):
        (tmp_path / "masks").mkdir()
        for number in range(2):
            photo, mask = make_photo(np.random.default_rng(number), number == 1, (300, 400))
            Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
            file = tmp_path / "images" / f"{number}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(photo).save(file)
        monkeypatch.setenv("CRACKCLF_DATA", str(tmp_path / "images"))
    elif path.stem.startswith("06"):
        monkeypatch.delenv("CRACKCLF_DATA", raising=False)  # It draws its own three classes.
    else:
        shutil.copytree(sample, tmp_path / "images", ignore=ignored)
        monkeypatch.setenv("CRACKCLF_DATA", str(tmp_path / "images"))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel sets its own
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(weights_folder))
    notebook = nbformat.read(path, as_version=4)
    for at, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", []):
            notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(PARAMETERS[path.stem]))
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path / "notebooks")}},
    ).execute()
    for left in LEFT.get(path.stem, ["saved_models/*/model.*", "logs/**/train/events*"]):
        assert list(tmp_path.glob(left))
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
