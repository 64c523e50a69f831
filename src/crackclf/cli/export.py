"""The command that takes a model out of Python."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import options
from crackclf.errors import UserError, notice

_CALIBRATION = 300  # Images; what OpenVINO's quantisation takes by default.
_DRAWN = 32


def export(
    model: Annotated[str, typer.Argument(help=options.MODEL)],
    format: Annotated[str, typer.Option(help="onnx, openvino, litert or saved_model.")],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: .onnx, .xml (and .bin beside it) for openvino, .tflite for "
            "litert; a folder for saved_model."
        ),
    ],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Quantise to 8 bits by 300 images of DATA: a fraction of the size, and faster.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with one sub-folder of images per class. The file is checked on those "
            "that the model was tested on, or, if there are none, was not trained on; without "
            "this option on drawn ones.",
        ),
    ] = None,
    positive: options.Positive = None,
    sha256: options.Sha256 = None,
) -> None:
    """Writes a model for another runtime, and checks it there.

    The file takes images of any size, uint8 RGB, and gives calibrated probabilities: resizing,
    preprocessing and softmax are inside. Class names and threshold travel with it as JSON. It is
    run by its own runtime, and removed again when it gives other probabilities than the model.

    onnx needs pip install 'crackclf[onnx]', openvino 'crackclf[openvino]'.

    \b
    Examples:
      crackclf export shipped --format onnx --out crack.onnx
      crackclf export saved_models/first --format openvino --int8 --data data/metu --out crack.xml
    """
    from crackclf.data.folders import read_folder
    from crackclf.export.choose import choose_images
    from crackclf.export.export import check_export_path, export_model
    from crackclf.prediction.evaluate import read_labelled, read_split
    from crackclf.sample.write import write_sample
    from crackclf.saved.store import model_folder, open_model

    check_export_path(out, format)
    options.check_model(model, sha256)
    if int8 and data is None:
        raise UserError("--int8 needs images to measure ranges on. Name a folder with --data.")
    card = open_model(model)[0]
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn"
        if data is None:
            notice(f"the file is checked on {_DRAWN} drawn patches; --data names real ones")
            write_sample(drawn, _DRAWN)
        if data is None and len(card.class_names) > 2:
            # Drawn patches are cracked or not: of more classes they have no labels.
            images, labels = read_folder(drawn)[0], None
        else:
            images, labels = read_labelled(card, data or drawn, positive)
        split = read_split(model_folder(model))
        measured, chosen = choose_images(images, split, _CALIBRATION * int8)
        result = export_model(
            model,
            out,
            format,
            [images[i].path for i in measured],
            None if labels is None else labels[measured],
            [images[i].path for i in chosen],
        )
    print(result)
