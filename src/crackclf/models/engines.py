"""The function of a model, run by the fastest runtime that is installed."""

import os
import threading
from collections.abc import Callable
from importlib.util import find_spec

import keras
import numpy as np
import tensorflow as tf

from crackclf.errors import UserError, notice
from crackclf.models.features import build_extractor
from crackclf.models.graphs import freeze_model, import_openvino, to_openvino

_TOLERANCE = 1e-3


def build_engine(model: keras.Model, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a model fast for many images: in OpenVINO where that is installed, else in LiteRT.

    OpenVINO computes in float32 here, also on processors on which it would choose less, and must
    give Keras' answer on an image of noise, or is told of and left out.

    Args:
        model: of images, of one output.
        threads: on which a call is computed.

    Returns:
        A function from images of shape (batch, height, width, 3), float32 or uint8, to what the
        model gives for them, float32. Threads may call it at the same time.
    """
    if find_spec("openvino") is None or tf.config.list_physical_devices("GPU"):
        return build_extractor(model, threads)
    try:
        engine = _openvino(model, threads)
        shape = [side or 256 for side in model.input_shape[1:]]  # 256: a whole number of cells.
        noise = np.random.default_rng(0).uniform(0, 255, (1, *shape)).astype(np.float32)
        off = np.abs(engine(noise) - np.asarray(model(noise, training=False))).max()
        if not off <= _TOLERANCE:
            raise UserError(f"OpenVINO's answer differs from Keras' by {off:.2g}.")
    except UserError as error:
        notice(f"{error} The model runs in LiteRT instead, more slowly.")
        return build_extractor(model, threads)
    return engine


def _openvino(model: keras.Model, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    cores = os.cpu_count() or 1
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": cores,
        "NUM_STREAMS": max(1, cores // threads),
    }
    graph = to_openvino(freeze_model(model))
    compiled = import_openvino().Core().compile_model(graph, "CPU", settings)
    own = threading.local()

    def run(images: np.ndarray) -> np.ndarray:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        pixels = np.ascontiguousarray(images, np.float32)
        return own.request.infer([pixels], share_inputs=True)[0].copy()

    return run
