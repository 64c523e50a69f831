import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import nbformat
import numpy as np
import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from PIL import Image

from drawn_concrete.make import make_photo

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
PYTORCH = next(path for path in NOTEBOOKS if "pytorch" in path.stem)
PICTURES = {  # Shown by each. The networks of the second are equal here and agree on all images.
    "01_train_mobilenetv2": 8,
    "02_compare_vgg16_resnet50": 4,
    "03_resnet18_pytorch": 3,
    "04_overfitting": 3,
    "05_inspect_site_photos": 6,
    "06_few_uneven_images": 3,
}
# What each leaves behind. The third saves a state dict, the fifth trains nothing.
CURVES = "logs/**/train/events*"
LEFT = {
    "03_resnet18_pytorch": ["saved_models/*/resnet18.pt", "logs/*/best.pt", CURVES],
    "05_inspect_site_photos": ["inspection-*/report.html"],
}
# What would take too long here is set anew after the cell tagged so.
USE_TINY = "from tiny import TINY\ncrackclf.BACKBONES['tiny'] = TINY\n"
PARAMETERS = {
    "01_train_mobilenetv2": "IMAGE_SIZE, EPOCHS = 32, 2",
    "02_compare_vgg16_resnet50": USE_TINY + "crackclf.BACKBONES['half'] = TINY\n"
    "IMAGE_SIZE, EPOCHS, NAMES = 32, 1, ['tiny', 'half']",
    "03_resnet18_pytorch": USE_TINY + "IMAGE_SIZE, ITERATIONS = 32, 5\n"
    "KERAS = {'backbone': 'tiny', 'weights': None}",
    "04_overfitting": USE_TINY + "IMAGE_SIZE, EPOCHS, SEEDS = 32, 1, [0]\n"
    "BASE = {'backbone': 'tiny', 'weights': None}",
    "06_few_uneven_images": USE_TINY + "crackclf.write_sample = lambda *_, **__: None\n"
    "SETTINGS |= {'image_size': 32, 'epochs': 1, 'folds': 3, 'views': 1}\n"
    "SETTINGS |= {'backbone': 'tiny', 'weights': 'random'}\n",
}
# Each begins as in a new kernel, but for what has been imported, which takes longest.
BEGIN = """%reset -f
import os
os.chdir({folder!r})
os.environ.pop("CRACKCLF_DATA", None)
os.environ.update({variables!r})
del os"""


@contextmanager
def start_kernel() -> Iterator[AsyncKernelManager]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # The kernel sets its own.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        manager = AsyncKernelManager(kernel_name="python3")
        run_sync(manager.start_kernel)()
    yield manager
    run_sync(manager.shutdown_kernel)(now=True)


@pytest.fixture(scope="module")
def kernel() -> Iterator[AsyncKernelManager]:
    with start_kernel() as manager:
        yield manager


def copy_sample(sample: Path, folder: Path) -> None:
    shutil.copytree(sample, folder, ignore=shutil.ignore_patterns(".crackclf"))


def lay_out(number: str, sample: Path, folder: Path) -> dict[str, str]:
    """Lays out what a notebook reads; returns the variables that name it."""
    (folder / "notebooks").mkdir()
    if number in ("02", "03"):  # Where these find their own sample, for which they need no weights.
        copy_sample(sample, folder / "data" / "sample-small")
        return {}
    if number == "06":  # It draws 300 images of each class; here the sample is repeated.
        for name in ("Negative", "Positive"):
            (folder / "data" / "sample-drawn" / name).mkdir(parents=True)
            drawn = sorted((sample / name).iterdir())
            for at in range(300):
                file = folder / "data" / "sample-drawn" / name / f"{at:05}.jpg"
                shutil.copyfile(drawn[at % len(drawn)], file)
        return {}
    if number == "05":
        (folder / "images").mkdir()
        for seed in range(2):
            photo, _ = make_photo(np.random.default_rng(seed), seed == 1, (300, 400))
            Image.fromarray(photo).save(folder / "images" / f"{seed}.png")
    else:
        copy_sample(sample, folder / "images")
    return {"CRACKCLF_DATA": str(folder / "images")}


def execute(path: Path, kernel: AsyncKernelManager, folder: Path, variables: dict) -> None:
    """Runs a notebook top to bottom, and checks what it shows and what it leaves behind."""
    notebook = nbformat.read(path, as_version=4)
    for at, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", []):
            notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(PARAMETERS[path.stem]))
    begin = BEGIN.format(folder=str(folder / "notebooks"), variables=variables)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(begin))
    NotebookClient(notebook, kernel, timeout=600).execute()
    for left in LEFT.get(path.stem, ["saved_models/*/model.*", CURVES]):
        assert list(folder.glob(left)), left
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in x.get("data", {}) for x in outputs) == PICTURES[path.stem]


# The first and the fifth run with `make test`; the others take too long there.
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.stem[:2] in ("01", "05") else pytest.mark.extras)
        for path in NOTEBOOKS
        if path != PYTORCH
    ],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_top_to_bottom(path, kernel, sample, weights_folder, tmp_path):
    variables = lay_out(path.stem[:2], sample, tmp_path)
    variables["CRACKCLF_WEIGHTS_DIR"] = str(weights_folder)
    execute(path, kernel, tmp_path, variables)


@pytest.mark.extras
def test_the_notebook_in_pytorch_runs_top_to_bottom(sample, tmp_path):
    # Not imported here: PyTorch has to be imported before TensorFlow, and in a kernel of its own.
    if find_spec("torchvision") is None:
        pytest.skip("PyTorch is not installed")
    with start_kernel() as kernel:
        execute(PYTORCH, kernel, tmp_path, lay_out("03", sample, tmp_path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_cells_without_outputs_or_functions(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert not any(re.search(r"^def ", cell.source, re.MULTILINE) for cell in cells)
    lengths = sorted(len(cell.source.splitlines()) for cell in cells)
    assert lengths[len(lengths) // 2] <= 5
