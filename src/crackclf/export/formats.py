"""The formats that a model is exported to: how each is written, read and run."""

import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf

from crackclf.cores import cores
from crackclf.errors import UserError
from crackclf.extras import need
from crackclf.saved.convert import freeze, to_litert

_KEY = "crackclf"  # Under which a file holds what belongs to the model.
_INSIDE = f"{_KEY}.json"
_OPSET = 18
_SHARE = 16  # Images that a core computes at a time.


class Exported(NamedTuple):
    """An exported model as its own runtime has loaded it.

    Attributes:
        run: from uint8 RGB images of shape (batch, height, width, 3) to float32 probabilities of
            shape (batch, classes).
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
    onnx, tf2onnx = need("onnx", "onnx"), need("tf2onnx", "onnx")
    model, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=_OPSET)
    onnx.checker.check_model(model)
    if calibration:
        model = _quantise_onnx(model, path, calibration)
    onnx.helper.set_model_props(model, {_KEY: json.dumps(about)})
    onnx.save(model, path)


def _quantise_onnx(model: Any, path: Path, calibration: Sequence[np.ndarray]) -> Any:
    need("onnxruntime", "onnx")
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
    onnxruntime = need("onnxruntime", "onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    about = session.get_modelmeta().custom_metadata_map[_KEY]
    return Exported(lambda images: session.run(None, {name: images})[0], json.loads(about))


def _write_openvino(
    function: Any, path: Path, about: dict[str, Any], calibration: Sequence[np.ndarray]
) -> None:
    openvino = _import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        # Not by convert_model, which reports its use over the network without having asked.
        graph = Path(folder) / "graph.pb"
        frozen = freeze(function, *function.input_signature).graph.as_graph_def()
        graph.write_bytes(frozen.SerializeToString())
        try:
            model = openvino.Core().read_model(graph)
        except RuntimeError as error:
            raise UserError(f"OpenVINO cannot read this model ({error}).") from None
    if calibration:
        nncf = need("nncf", "openvino")
        model = nncf.quantize(
            model, nncf.Dataset(calibration), subset_size=len(calibration),
            # Pixels are quantised once, after resizing: that is more exact, and faster.
            ignored_scope=nncf.IgnoredScope(types=["Interpolate"]),
        )  # fmt: skip
    model.outputs[0].get_tensor().set_names({"probabilities"})
    model.set_rt_info(json.dumps(about), [_KEY])
    openvino.save_model(model, path, compress_to_fp16=False)


def _import_openvino() -> Any:
    # Without this module OpenVINO has nothing to report its use with.
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    return need("openvino", "openvino")


def load_openvino(path: Path, precision: str = "f32") -> Exported:
    """Loads a model exported to OpenVINO, which divides any number of images among the cores.

    Args:
        path: its `.xml`, beside which is the `.bin`.
        precision: to compute in: `"f32"`, as it was written, or `"bf16"`, which OpenVINO takes by
            itself where the processor can. That moves probabilities of a MobileNetV2 by up to
            0.18.
    """
    openvino = _import_openvino()
    core = openvino.Core()
    model = core.read_model(path)
    about = json.loads(model.get_rt_info([_KEY]).value)
    threads = cores()
    # It is fastest when each core has images of its own.
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
    path.write_bytes(to_litert(_freeze_named(function).get_concrete_function(), calibration))
    # A ZIP behind the model, which readers of the model do not see; TensorFlow Lite's own metadata
    # is stored so.
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
    module = cast("Any", tf.Module())
    module.serve = _freeze_named(function)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    # The folder that TensorFlow leaves to others.
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / _INSIDE).write_text(json.dumps(about), encoding="utf-8")


def _load_saved_model(path: Path) -> Exported:
    model: Any = tf.saved_model.load(str(path))
    serve = model.signatures["serving_default"]
    about = (path / "assets.extra" / _INSIDE).read_text(encoding="utf-8")
    return Exported(
        lambda images: serve(image=tf.constant(images))["probabilities"].numpy(), json.loads(about)
    )


def _freeze_named(function: Any) -> Any:
    """The function with constants for variables, and its output still under its name."""
    graph, images = freeze(function, *function.input_signature), function.input_signature
    return tf.function(lambda image: {"probabilities": graph(image)[0]}, input_signature=images)


FORMATS = {
    "onnx": Format(".onnx", _write_onnx, _load_onnx),
    "openvino": Format(".xml", _write_openvino, load_openvino),
    "litert": Format(".tflite", _write_litert, _load_litert),
    "saved_model": Format("", _write_saved_model, _load_saved_model),
}
