"""A LiteRT graph that any number of threads can run."""

from contextlib import nullcontext
from typing import Any

import numpy as np

from crackclf.errors import UserError
from crackclf.quiet import silence

_has_noted: set[bool] = set()  # LiteRT prints a note at the first use in a process.
SHARE = 8  # Images that a core computes at a time. Small batches stay in its cache.


class Graph:
    """A LiteRT graph from images to logits by cell and perhaps a mask, for any number of threads.

    Each thread runs an interpreter of one thread. This is faster than one interpreter of many
    threads, which wait for each other. The graph can be pickled, and works in a forked process.
    `content` is that of a `.tflite` file, from float32 images to float32.
    """

    def __init__(self, content: bytes):
        self.content = content
        self._idle: list[Any] = []  # Its `append` and `pop` are safe between threads.

    def __reduce__(self) -> tuple[Any, ...]:
        return Graph, (self.content,)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits by cell, (batch, rows, columns, classes), of images (batch, height, width, 3)."""
        return self.run(images)[0]

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Logits by cell and, if the graph has it, of the mask (batch, rows, columns, 1)."""
        try:
            interpreter = self._idle.pop()
        except IndexError:
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_content=self.content, num_threads=1)
        (image,), answers = interpreter.get_input_details(), interpreter.get_output_details()
        try:
            # A prepared interpreter changes its shape forty times as fast as a new one is prepared.
            interpreter.resize_tensor_input(image["index"], images.shape, strict=True)
            with nullcontext() if _has_noted else silence():
                interpreter.allocate_tensors()
            _has_noted.add(True)
            interpreter.tensor(image["index"])()[...] = images
            interpreter.invoke()
            results = [interpreter.get_tensor(answer["index"]) for answer in answers]
        except (ValueError, RuntimeError) as error:
            message = f"LiteRT cannot answer for images of shape {images.shape} ({error})"
            raise UserError(message) from None
        self._idle.append(interpreter)
        return sorted(results, key=lambda result: -result.shape[-1])  # A mask has one channel.
