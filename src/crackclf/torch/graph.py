"""A saved ResNet18 answers as a LiteRT graph does."""

import io
import os
from typing import Any

import numpy as np

from crackclf.torch.network import load_resnet18
from crackclf.torch.pytorch import torch

if hasattr(os, "register_at_fork"):
    # A forked process has none of its parent's threads, and OpenMP would wait for them.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class TorchGraph:
    """A saved ResNet18, called like `crackclf.saved.graph.Graph`.

    Threads may share it. It can be pickled, and outlives a fork.

    Args:
        content: of a `model.pt`.

    Raises:
        UserError: when it is not the state dict of a `ResNet18`.

    Example:

    ```python
    logits = TorchGraph(Path("model.pt").read_bytes())(images)
    ```
    """

    def __init__(self, content: bytes):
        self.content = content
        self._model = load_resnet18(io.BytesIO(content))

    def __reduce__(self) -> tuple[Any, ...]:
        return TorchGraph, (self.content,)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Runs the network on the CPU.

        Args:
            images: of shape (batch, height, width, 3) in 0..255, any type of number.

        Returns:
            Logits of whole patches, float32 of shape (batch, 1, 1, classes).
        """
        x = torch.from_numpy(np.ascontiguousarray(images, np.float32)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            return self._model(x).numpy()[:, None, None]
