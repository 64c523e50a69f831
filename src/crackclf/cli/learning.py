"""The commands that train models, and measure and export them."""

from pathlib import Path

import typer

from crackclf.cli import options
from crackclf.cli.options import option
from crackclf.errors import learning
from crackclf.files import user_path
from crackclf.settings import TrainSettings

_BACKBONES = (
    "Two or more of mobilenetv2, mobilenetv3large, vgg16, resnet50, efficientnetv2b0, "
    "efficientnetlite0 and convnexttiny."
)
_SETTINGS = option(None, "Defaults: the settings.json of an earlier training.")
_EPOCHS = option(10, "Maximum number of passes over the training images, in each stage.")
_BATCH_SIZE = option(32, "Images per training step.")


def _read_settings(context: typer.Context) -> dict:
    """The settings of a training: from the command line, else `--settings FILE`, else defaults."""
    file = context.params["settings"]
    settings = (TrainSettings.read(user_path(file)) if file else TrainSettings()).to_dict()
    for name in settings.keys() & context.params.keys():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            settings[name] = context.params[name]
    return settings


def train(
    context: typer.Context,
    directory: Path = options.SPLITTABLE,
    out: Path | None = option(None, "Folder for the model. By default in saved_models/."),
    settings: Path | None = _SETTINGS,
    validation_split: float = option(0.2, "Share of the images used for validation."),
    test_split: float = option(0.2, "Share of the images used for the final test."),
    folds: int = option(0, "Folds of a cross-validation, 3 or more. 0: no cross-validation."),
    group_by: str | None = option(None, "Regex. Images with the same match stay in one set."),
    group_look_alikes: bool = option(False, "Images that look alike, also turned, stay together."),
    skip_unreadable: bool = options.SKIP_UNREADABLE,
    backbone: str = option("mobilenetv2", "Base: one that `crackclf compare --help` lists."),
    weights: str = option("imagenet", "imagenet, concrete, random, or a .weights.h5 or .h5 file."),
    image_size: int = option(160, "Height and width of the resized images in pixels."),
    hidden_units: int = option(0, "Units of a hidden layer before the softmax layer. 0: none."),
    dropout: float = option(0.2, "Share of the features dropped in training."),
    epochs: int = _EPOCHS,
    batch_size: int = _BATCH_SIZE,
    learning_rate: float = option(1e-3, "Learning rate of the head. Fine-tuning: a hundredth."),
    weight_decay: float = option(0.0, "Weight decay of Adam."),
    label_smoothing: float = option(0.0, "Share of each label spread over all classes."),
    patience: int = option(3, "Epochs without a lower validation loss until a stage stops."),
    class_weights: str = option("auto", "balanced, none, or auto: balanced from a ratio of 3."),
    augmentation: bool = option(True, "Flip and turn the training images, change their light."),
    cache_features: bool = option(True, "Run the frozen base once, not in every epoch."),
    views: int | None = option(None, "Cached variants of an image. By default 1 to 8."),
    fine_tune: int = option(0, "Blocks at the end of the base to train in a second stage."),
    seed: int = option(0, "Seed of split, shuffling, augmentation, dropout and head."),
    positive: str | None = options.POSITIVE,
    threshold_for: str | None = option(None, "Goal of the threshold, such as recall=0.98."),
) -> None:
    r"""Trains a classifier on a folder of images and saves it.

    The model is trained on augmented images, calibrated on the validation
    images, and tested on images that are used for nothing else. The curves
    are in logs/NAME. To see them: tensorboard --logdir logs

    Examples:
      crackclf train data/sdnet --group-by '(\d+)-' --threshold-for recall=0.98
      crackclf train data/metu --settings first/settings.json --seed 1
    """
    chosen = _read_settings(context)
    with learning():
        from crackclf.curves import diagnose, read_curves
        from crackclf.pipeline import train_folder

    folder, classifier, report = train_folder(directory, out, **chosen)
    print(f"{'Out of fold' if chosen['folds'] else 'On the test set'}: {report}\n")
    print(report.classification_report)
    if not chosen["folds"]:  # The last training is on all images, with no validation set.
        print(f"Curves: {diagnose(read_curves(folder))}\n")
    print(f"Base: {classifier.card.backbone}, {classifier.card.weights_origin}")
    print(f"Saved in {folder}")
    print(f"For whole photos: crackclf inspect PHOTOS --model {folder} --sound SOUND-PHOTOS")


def compare(
    context: typer.Context,
    directory: Path = options.SPLITTABLE,
    backbones: list[str] = option(..., _BACKBONES, metavar="NAME ..."),
    more: list[str] | None = typer.Argument(None, hidden=True),
    out: Path = option("saved_models/comparison", "Folder for figures. Models: OUT-BACKBONE."),
    json_file: Path | None = options.JSON,
    settings: Path | None = _SETTINGS,
    epochs: int = _EPOCHS,
    batch_size: int = _BATCH_SIZE,
) -> None:
    """Compares backbones: accuracy, speed and size on the same images.

    Each backbone is trained with the same split, head and number of epochs.
    --settings takes all settings of `crackclf train` from a file. The table
    has the accuracy with its 95 % interval, and McNemar's exact test for each
    pair. A backbone without weights is named and left out.

    Examples:
      crackclf compare data/metu --backbones vgg16 resnet50 mobilenetv2
      crackclf compare data/metu --backbones vgg16 resnet50 --json vgg.json
    """
    chosen = _read_settings(context)
    del chosen["backbone"]
    with learning():
        from crackclf.compare import compare as compare_backbones

    comparison = compare_backbones(directory, [*backbones, *(more or [])], out, **chosen)
    print(comparison)
    print(f"Figures in {out}")
    options.write_json(json_file, {"data": str(directory)} | comparison.to_dict())


def evaluate(
    model: str = options.MODEL_ARGUMENT,
    directory: Path = options.LABELLED,
    positive: str | None = options.POSITIVE,
    json_file: Path | None = options.JSON,
    skip_unreadable: bool = options.SKIP_UNREADABLE,
) -> None:
    """Measures a saved model on a folder of labelled images.

    For a model of two classes the folders may have any names. --positive then
    says which one holds the cracked images.

    Examples:
      crackclf evaluate saved_models/first data/metu
      crackclf evaluate shipped data/bridge --positive damaged --json bridge.json
    """
    from crackclf.prediction import evaluate as measure

    report = measure(directory, model, positive=positive, skip_unreadable=skip_unreadable)
    print(f"{report}\n\n{report.classification_report}")
    print(f"Confusion matrix (rows true, columns predicted: {', '.join(report.class_names)})")
    print("\n".join("  " + "".join(f"{n:>8}" for n in row) for row in report.confusion_matrix))
    options.write_json(json_file, {"model": model, "data": str(directory)} | report.to_dict())


def export(
    model: str = options.MODEL_ARGUMENT,
    format: str = option(..., "onnx or litert."),
    out: Path = option(..., "File to write, ending in .onnx or .tflite."),
) -> None:
    """Writes a model as ONNX or LiteRT.

    The file takes RGB images of any size and gives calibrated probabilities.
    Resizing, preprocessing and softmax are part of it. Class names and
    threshold are written beside it as JSON. The file is run and compared with
    the model. A file whose probabilities differ is removed. ONNX
    needs pip install 'crackclf[export]'.

    Examples:
      crackclf export shipped --format onnx --out crack.onnx
      crackclf export saved_models/first --format litert --out first.tflite
    """
    with learning():
        from crackclf.export import export_model

    print(export_model(model, out, format))
