"""A LiteRT graph, run by any number of threads."""

import math
import threading
from typing import Any

import numpy as np

from crackclf.cores import cores
from crackclf.errors import UserError

SHARE = 8  # Images that a core computes at a time. Small batches stay in its cache.
_MOST = 2**28  # Numbers of any tensor.
_READY = 5_000_000  # Numbers, for each core, in the inputs that interpreters are kept ready for.


class Graph:
    """A LiteRT graph of one input and one output, for any number of threads.

    Each call runs in its thread. One thread an interpreter is fastest: the threads of one
    interpreter wait for each other. The graph can be pickled, and outlives a fork.

    Args:
        content: of a `.tflite` file.

    Raises:
        UserError: when it is no LiteRT graph from images to float32.

    Example:

    ```python
    logits = Graph(Path("model.tflite").read_bytes())(images)
    ```
    """

    def __init__(self, content: bytes):
        self.content = content
        # By shape of the input: making an interpreter ready takes a large part of a run.
        self._ready: list[tuple[tuple[int, ...], Any]] = []
        self._lock = threading.Lock()
        try:
            interpreter = self._interpreter()
            (image,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"is no LiteRT graph of one input and one output ({error})") from None
        self.input_shape = tuple(image["shape_signature"].tolist())
        self.output_shape = tuple(answer["shape_signature"].tolist())
        if len(self.input_shape) != 4 or {image["dtype"], answer["dtype"]} != {np.float32}:
            raise UserError("is no LiteRT graph from float32 images to float32")

    def __reduce__(self) -> tuple[Any, ...]:
        return Graph, (self.content,)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Runs the graph in this thread.

        Args:
            images: of shape (batch, height, width, channels), any type of number.

        Returns:
            The graph's output, float32.

        Raises:
            UserError: when the graph takes no images of this shape.
        """
        shape = images.shape
        try:
            interpreter = self._take(shape) or self._prepare(shape)
            interpreter.tensor(interpreter.get_input_details()[0]["index"])()[...] = images
            interpreter.invoke()
            answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        except (ValueError, RuntimeError) as error:
            raise UserError(f"LiteRT cannot answer for images of shape {shape} ({error})") from None
        with self._lock:
            self._ready.append((shape, interpreter))
            while sum(math.prod(ready) for ready, _ in self._ready[:-1]) > _READY * cores():
                self._ready.pop(0)
        return answer

    def _take(self, shape: tuple[int, ...]) -> Any:
        with self._lock:
            at = next((i for i, (ready, _) in enumerate(self._ready) if ready == shape), None)
            return None if at is None else self._ready.pop(at)[1]

    def _prepare(self, shape: tuple[int, ...]) -> Any:
        interpreter = self._interpreter()
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
        interpreter.allocate_tensors()
        # Set aside and not used yet: a graph from a stranger may ask for anything.
        most = max(math.prod(x["shape"].tolist()) for x in interpreter.get_tensor_details())
        if most > _MOST:
            raise ValueError(f"it asks for a tensor of {most:,} numbers")
        return interpreter

    def _interpreter(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(model_content=self.content, num_threads=1)
