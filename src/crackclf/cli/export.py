"""`crackclf export`."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import options
from crackclf.errors import UserError, notice
from crackclf.quiet import import_tensorflow

_CALIBRATION = 300  # Images; what OpenVINO's quantisation takes by default.
_DRAWN = 32


def export(
    model: options.Model,
    format: Annotated[str, typer.Option(help="One of onnx, openvino, litert and saved_model.")],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write, ending in .onnx, .xml (openvino; the weights go to a .bin) or "
            ".tflite (litert). A folder for saved_model."
        ),
    ],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Quantise to 8 bits, with 300 images of --data. Smaller and faster.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with one sub-folder of images per class, to check the file on. Images "
            "that the model was trained on are left out. Without this option the file is checked "
            "on drawn images.",
        ),
    ] = None,
    positive: options.Positive = None,
    sha256: options.Sha256 = None,
) -> None:
    r"""Writes a model as ONNX, OpenVINO, LiteRT or SavedModel, and checks it.

    The file takes uint8 RGB images of any size and gives calibrated
    probabilities. Resizing, preprocessing and softmax are part of it. Class
    names and threshold are stored in it as JSON. The file is run and compared
    with the model. A file whose probabilities differ is removed.

    onnx needs pip install 'crackclf\[onnx]'.
    openvino needs pip install 'crackclf\[openvino]'.

    Examples:
      crackclf export shipped --format onnx --out crack.onnx
      crackclf export shipped --format litert --int8 --data data --out a.tflite
    """
    import_tensorflow()
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
            notice(f"checking the file on {_DRAWN} drawn patches. Use --data for real ones")
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
