import subprocess
import sys
from pathlib import Path

import pytest

import crackclf

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "code",
    [
        "import crackclf",
        "import crackclf.cli",
        "import crackclf.sample.write, crackclf.images.decode, crackclf.data.folders",
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


def test_the_wheel_holds_every_file_of_the_package_and_no_other():
    hatchling = pytest.importorskip("hatchling.builders.wheel")
    files = hatchling.WheelBuilder(str(ROOT)).recurse_included_files()
    held = {file.distribution_path for file in files}
    package = {path for path in (ROOT / "src/crackclf").rglob("*") if path.is_file()}
    assert held == {
        path.relative_to(ROOT / "src").as_posix() for path in package if path.suffix != ".pyc"
    }
    assert {f"crackclf/shipped/{x}" for x in ("card.json", "model.keras", "model.tflite")} <= held
    assert {"crackclf/py.typed", "crackclf/inspection/inspection.schema.json"} <= held
    assert {"crackclf/inspection/report.html", "crackclf/app/page.css"} <= held
