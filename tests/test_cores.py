import os

import pytest

from crackclf.files import cores


@pytest.mark.parametrize(("granted", "expected"), [("3", 3), ("", None), ("0", None), ("x", None)])
def test_a_process_keeps_to_the_cores_it_was_granted(granted, expected, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", granted)
    assert cores() == (expected or os.cpu_count())
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cores() == os.cpu_count()
