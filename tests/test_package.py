import subprocess
import sys

import pytest

import crackclf


@pytest.mark.parametrize(
    "code",
    [
        "import crackclf",
        "import crackclf.cli",
        "import crackclf.data.sample, crackclf.data.images, crackclf.data.folders",
    ],
)
def test_what_must_be_quick_does_not_import_the_heavy_libraries(code):
    heavy = "{'tensorflow', 'keras', 'matplotlib', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"import sys; {code}; assert not {heavy}"], check=True)


def test_every_name_of_the_package_can_be_had():
    for name in crackclf.__all__:
        assert getattr(crackclf, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        crackclf.nonsense  # noqa: B018


def test_rooms_import_only_from_the_left():
    from pathlib import Path

    rooms = ["data", "models", "evaluation", "training", "inference"]
    package = Path(crackclf.__file__).parent
    for i, room in enumerate(rooms):
        for path in (package / room).glob("*.py"):
            text = path.read_text()
            wrong = [right for right in rooms[i + 1 :] if f"crackclf.{right}" in text]
            assert not wrong, f"{path} imports from {wrong}"
