import subprocess
import sys

import pytest

import crackclf


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
