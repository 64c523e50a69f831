"""PyTorch, imported so that it works beside TensorFlow."""

# pyright: reportMissingImports=false
import sys

from crackclf.extras import need

if "tensorflow" in sys.modules:
    # TensorFlow and triton, which torchvision imports, register the same LLVM options, and the
    # second to do so aborts the process. Only torch.compile needs triton.
    sys.modules.setdefault("triton", None)  # pyright: ignore[reportArgumentType]
need("torchvision", "torch")

import torch  # noqa: E402
import torchvision  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

__all__ = ["torch", "torchvision", "v2"]
