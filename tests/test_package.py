import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import crackclf

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "code",
    [
        "import crackclf",
        "import crackclf.cli",
        "import crackclf.sample, crackclf.images, crackclf.folders, crackclf.settings",
    ],
)
def test_what_must_be_quick_does_not_import_the_heavy_libraries(code):
    heavy = "{'tensorflow', 'keras', 'matplotlib', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"import sys; {code}; assert not {heavy}"], check=True)


def test_every_name_of_the_package_can_be_had():
    for name in crackclf.__all__:
        assert getattr(crackclf, name) is not None
    with pytest.raises(AttributeError, match="No crackclf attribute nonsense"):
        crackclf.nonsense  # noqa: B018


@pytest.fixture(scope="module")
def builder():
    return pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))


def test_the_wheel_holds_every_file_of_the_package_and_no_other(builder):
    held = {file.distribution_path for file in builder.recurse_included_files()}
    package = {path for path in (ROOT / "src").rglob("*") if path.is_file()}
    assert held == {
        path.relative_to(ROOT / "src").as_posix() for path in package if path.suffix != ".pyc"
    }
    assert {f"crackclf/shipped/{x}" for x in ("card.json", "model.keras", "model.tflite")} <= held
    photos = {f"crackclf/photos/{x}" for x in ("inspection.schema.json", "report.html")}
    assert photos | {"crackclf/py.typed", "drawn_concrete/make.py"} <= held


def test_the_wheel_answers_where_nothing_else_of_the_project_is(builder, sample, tmp_path):
    [wheel] = builder.build(directory=str(tmp_path / "dist"), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    patch = next((sample / "Positive").iterdir())
    script = f"""
import crackclf
assert crackclf.__file__.startswith({str(tmp_path)!r})
from crackclf.cli import main
main()
"""
    installed = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    for arguments in (["predict", patch], ["inspect", patch, "--out", "out"]):
        start = [sys.executable, "-c", script, *arguments]
        subprocess.run(start, cwd=tmp_path, env=installed, check=True)
    assert (tmp_path / "out" / "report.html").is_file()


def test_another_backend_of_keras_gives_way_with_a_notice_before_keras_is_imported():
    code = "import crackclf, os; crackclf.load_model; print(os.environ['KERAS_BACKEND'])"
    env = os.environ | {"KERAS_BACKEND": "torch"}
    start = [sys.executable, "-c", code]
    done = subprocess.run(start, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "tensorflow\n"
    assert done.stderr.count("Keras runs on TensorFlow") == 1
