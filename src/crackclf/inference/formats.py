"""The formats that a model is exported to: how each is written, read and run."""

import json
import zipfile
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf

from crackclf.data.cores import cores
from crackclf.errors import UserError
from crackclf.models.graphs import freeze, import_openvino, to_litert, to_openvino

_KEY = "crackclf"  # Under which a file holds what belongs to the model.
_INSIDE = f"{_KEY}.json"
_OPSET = 18
_SHARE = 16  # Images that a core computes at a time.


class Exported(NamedTuple):
    """An exported model as its own runtime has loaded it.

    Attributes:
        run: from uint8 RGB images of shape (batch, height, width, 3) to float32 probabilities of
            shape (batch, 2).
        about: class names, threshold and so on, which travel with the model.
    """

    run: Callable[[np.ndarray], np.ndarray]
    about: dict[str, Any]


class Format(NamedTuple):
    """How a format is written and read.

    Attributes:
        suffix: of its files; empty when it is a folder.
        write: from a `tf.function` of images, a file, what travels with the model, and images for
            8-bit quantisation of shape (1, height, width, 3), none for float32.
        load: from a file.
    """

    suffix: str
    write: Callable[[Any, Path, dict[str, Any], Sequence[np.ndarray]], None]
    load: Callable[[Path], Exported]


def _write_onnx(
    function: Any, path: Path, about: dict[str, Any], calibration: Sequence[np.ndarray]
) -> None:
    onnx, tf2onnx = _need("onnx", "onnx"), _need("tf2onnx", "onnx")
    model, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=_OPSET)
    onnx.checker.check_model(model)
    if calibration:
        model = _quantise_onnx(model, path, calibration)
    onnx.helper.set_model_props(model, {_KEY: json.dumps(about)})
    onnx.save(model, path)


def _quantise_onnx(model: Any, path: Path, calibration: Sequence[np.ndarray]) -> Any:
    _need("onnxruntime", "onnx")
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{model.graph.input[0].name: image} for image in calibration])

        def get_next(self) -> Any:
            return next(self.feeds, None)

    plain, prepared = path.with_name("plain.onnx"), path.with_name("prepared.onnx")
    onnx.save(model, plain)
    quant_pre_process(plain, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared, path, Images(), per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    plain.unlink()
    prepared.unlink()
    return onnx.load(path)


def _load_onnx(path: Path) -> Exported:
    session = _need("onnxruntime", "onnx").InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    about = session.get_modelmeta().custom_metadata_map[_KEY]
    return Exported(lambda images: session.run(None, {name: images})[0], json.loads(about))


def _write_openvino(
    function: Any, path: Path, about: dict[str, Any], calibration: Sequence[np.ndarray]
) -> None:
    openvino = import_openvino()
    model = to_openvino(freeze(function, *function.input_signature))
    if calibration:
        nncf = _need("nncf", "openvino")
        model = nncf.quantize(
            model, nncf.Dataset(calibration), subset_size=len(calibration),
            # Pixels are quantised once they are resized, not twice: nearer to Keras, and faster.
            ignored_scope=nncf.IgnoredScope(types=["Interpolate"]),
        )  # fmt: skip
    model.outputs[0].get_tensor().set_names({"probabilities"})
    model.set_rt_info(json.dumps(about), [_KEY])
    openvino.save_model(model, path, compress_to_fp16=False)


def load_openvino(path: Path, precision: str = "f32") -> Exported:
    """A model exported to OpenVINO, by which any number of images is divided among the cores.

    Args:
        path: its `.xml`, beside which is the `.bin`.
        precision: to compute in: `"f32"` as it was written or, where the processor can, `"bf16"`,
            which is what OpenVINO takes there by itself. Of a MobileNetV2 that moves probabilities
            by up to 0.18.
    """
    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(path)
    about = json.loads(model.get_rt_info([_KEY]).value)
    threads = cores()
    # Each core with images of its own is fastest.
    settings = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": threads}
    compiled = core.compile_model(model, "CPU", settings | {"INFERENCE_NUM_THREADS": threads})
    queue = openvino.AsyncInferQueue(compiled, threads)
    answers: list[Any] = []
    queue.set_callback(
        lambda request, at: answers.append((at, request.get_output_tensor().data.copy()))
    )

    def run(images: np.ndarray) -> np.ndarray:
        answers.clear()
        for start in range(0, len(images), _SHARE):
            queue.start_async([images[start : start + _SHARE]], start)
        queue.wait_all()
        return np.concatenate([answer for _, answer in sorted(answers, key=itemgetter(0))])

    return Exported(run, about)


def _write_litert(
    function: Any, path: Path, about: dict[str, Any], calibration: Sequence[np.ndarray]
) -> None:
    graph = freeze(function, *function.input_signature)
    path.write_bytes(to_litert(graph, calibration))
    # As TensorFlow Lite's own metadata does it: a ZIP behind the model, which readers of the model
    # do not see.
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(_INSIDE, json.dumps(about))
        file.writestr("labels.txt", "\n".join(about["class_names"]))


def _load_litert(path: Path) -> Exported:
    from ai_edge_litert.interpreter import Interpreter

    with zipfile.ZipFile(path) as file:
        about = json.loads(file.read(_INSIDE))
    interpreter = Interpreter(str(path), num_threads=cores())
    (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    ready: tuple[int, ...] = ()

    def run(images: np.ndarray) -> np.ndarray:
        nonlocal ready
        if ready != images.shape:
            interpreter.resize_tensor_input(image["index"], images.shape)
            interpreter.allocate_tensors()
            ready = images.shape
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(probabilities["index"])

    return Exported(run, about)


def _write_saved_model(
    function: Any, path: Path, about: dict[str, Any], calibration: Sequence[np.ndarray]
) -> None:
    if calibration:
        raise UserError("saved_model has no int8. Expected openvino, onnx or litert for int8.")
    graph, module = freeze(function, *function.input_signature), cast("Any", tf.Module())
    module.serve = tf.function(
        lambda image: {"probabilities": graph(image)[0]}, input_signature=function.input_signature
    )
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    # Where TensorFlow keeps what others have put beside its own files.
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / _INSIDE).write_text(json.dumps(about), encoding="utf-8")


def _load_saved_model(path: Path) -> Exported:
    model: Any = tf.saved_model.load(str(path))
    serve = model.signatures["serving_default"]
    about = (path / "assets.extra" / _INSIDE).read_text(encoding="utf-8")
    return Exported(
        lambda images: serve(image=tf.constant(images))["probabilities"].numpy(), json.loads(about)
    )


def _need(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{module} is needed here ({error}): pip install 'crackclf[{extra}]'"
        ) from None


FORMATS = {
    "onnx": Format(".onnx", _write_onnx, _load_onnx),
    "openvino": Format(".xml", _write_openvino, load_openvino),
    "litert": Format(".tflite", _write_litert, _load_litert),
    "saved_model": Format("", _write_saved_model, _load_saved_model),
}
