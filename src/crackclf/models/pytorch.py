"""PyTorch, imported so that it gets along with TensorFlow, or asked for where it is missing."""

# pyright: reportMissingImports=false
import sys

from crackclf.errors import UserError

if "tensorflow" in sys.modules:
    # TensorFlow and the triton that torchvision would import register the same LLVM options, and
    # the second to do so aborts the process. Only torch.compile needs triton.
    sys.modules.setdefault("triton", None)  # pyright: ignore[reportArgumentType]
try:
    import torch
    import torchvision
except ImportError as error:
    raise UserError(
        f"PyTorch and torchvision are needed here ({error}): pip install 'crackclf[torch]'"
    ) from None

__all__ = ["torch", "torchvision"]
