import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
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
USE_TINY = "from tiny import TINY\ncrackclf.BACKBONES['tiny'] = TINY\n"
PARAMETERS = {
    "01_train_mobilenetv2": "IMAGE_SIZE, EPOCHS = 64, 3",
    "02_compare_vgg16_resnet50": "IMAGE_SIZE, EPOCHS = 32, 1\n"
    "NAMES = ['vgg16-block4', 'mobilenetv2']",
    "03_resnet18_pytorch": "IMAGE_SIZE, ITERATIONS = 32, 5",
    "04_overfitting": USE_TINY + "IMAGE_SIZE, EPOCHS, SEEDS = 32, 2, [0]\n"
    "BASE = {'backbone': 'tiny', 'weights': None}",
    "06_few_uneven_images": USE_TINY + "crackclf.write_sample = lambda *_, **__: None\n"
    "SETTINGS |= {'image_size': 32, 'epochs': 1, 'folds': 3, 'views': 1}\n"
    "SETTINGS |= {'backbone': 'tiny', 'weights': 'random'}",
}


# Each begins as in a new kernel, but for what has been imported, which takes longest.
BEGIN = """%reset -f
import os
os.chdir({folder!r})
os.environ.pop("CRACKCLF_DATA", None)
os.environ.update({variables!r})
del os"""


@pytest.fixture(scope="module")
def kernel():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # The kernel sets its own.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        manager = AsyncKernelManager(kernel_name="python3")
        run_sync(manager.start_kernel)()
    yield manager
    run_sync(manager.shutdown_kernel)(now=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_top_to_bottom(path, kernel, sample, weights_folder, tmp_path):
    variables = {"CRACKCLF_WEIGHTS_DIR": str(weights_folder)}
    (tmp_path / "notebooks").mkdir()
    ignored = shutil.ignore_patterns(".crackclf")
    if path.stem.startswith(("02", "03")):
        # Where these notebooks find their own sample, for which they need no weights.
        shutil.copytree(sample, tmp_path / "data" / "sample-small", ignore=ignored)
    elif path.stem.startswith("05"):
        (tmp_path / "masks").mkdir()
        for number in range(2):
            photo, mask = make_photo(np.random.default_rng(number), number == 1, (300, 400))
            Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
            file = tmp_path / "images" / f"{number}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(photo).save(file)
        variables["CRACKCLF_DATA"] = str(tmp_path / "images")
    elif path.stem.startswith("06"):
        # It makes three classes of 300 drawings of each of two, which take a minute; here they are
        # a few, again and again.
        for name in ("Negative", "Positive"):
            (tmp_path / "data" / "sample-drawn" / name).mkdir(parents=True)
            drawn = sorted((sample / name).iterdir())
            for number in range(300):
                file = tmp_path / "data" / "sample-drawn" / name / f"{number:05}.jpg"
                shutil.copyfile(drawn[number % len(drawn)], file)
    else:
        shutil.copytree(sample, tmp_path / "images", ignore=ignored)
        variables["CRACKCLF_DATA"] = str(tmp_path / "images")
    notebook = nbformat.read(path, as_version=4)
    for at, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", []):
            notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(PARAMETERS[path.stem]))
    begin = BEGIN.format(folder=str(tmp_path / "notebooks"), variables=variables)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(begin))
    NotebookClient(notebook, kernel, timeout=600).execute()
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
