"""PyTorch, imported so that it works beside TensorFlow. Tests that import it skip without it."""

import sys

import pytest

# TensorFlow and triton, which torchvision imports, register the same LLVM options, and the second
# to do so aborts the process.
sys.modules.setdefault("triton", None)  # pyright: ignore[reportArgumentType]
torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
