"""The command line: one command per verb; the work is done in the rooms."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from crackclf.errors import UserError, notice

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Tells cracked concrete from sound concrete.\n\n"
    "\b\nAt once, with the model that comes with it:\n"
    "  crackclf predict photos/\n\n"
    "\b\nA first round of training, nothing to download:\n"
    "  crackclf sample data/sample\n"
    "  crackclf train data/sample --out saved_models/first\n"
    "  crackclf evaluate saved_models/first data/sample\n"
    "  crackclf predict data/sample/Positive --model saved_models/first",
)

_MODEL = "Model folder, as `crackclf train` writes it, or the word shipped: crackclf's own model."
_DATA = "Folder with one sub-folder of images per class, e.g. Negative/ and Positive/."
_POSITIVE = "Class folder that holds the cracked images, when its name does not tell."
_SKIP = "Leave out, and list, files that cannot be read, instead of stopping."
_RESULT_HEAD = '{\n  "written_by": "crackclf"'
_CSV_HEAD = "file,label,probability,error\n"


@app.command()
def sample(
    directory: Annotated[Path, typer.Argument(help="Folder to make.")],
    count: Annotated[int, typer.Option(help="Number of images, half of them cracked.")] = 1200,
    seed: Annotated[int, typer.Option(help="Same seed, same images.")] = 0,
) -> None:
    """Draws concrete patches, cracked and sound, to try everything on.

    \b
    Example:
      crackclf sample data/sample --count 1200 --seed 0
    """
    from crackclf.data.sample import write_sample

    print(write_sample(directory, count, seed))


@app.command()
def train(
    directory: Annotated[Path, typer.Argument(help=f"{_DATA} Or one split into train/ etc.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Model folder to make.  [default: saved_models/mobilenetv2-N]"),
    ] = None,
    epochs: Annotated[int, typer.Option(help="At most this many epochs.")] = 10,
    image_size: Annotated[
        int, typer.Option(help="Side to which images are resized, pixels.")
    ] = 160,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 32,
    validation_split: Annotated[float, typer.Option(help="Share kept for validation.")] = 0.2,
    test_split: Annotated[float, typer.Option(help="Share kept for the final test.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Of split, shuffling, augmentation, head.")] = 0,
    weights: Annotated[
        str,
        typer.Option(
            help="Base weights: imagenet, concrete, random, or a .weights.h5 or .h5 file."
        ),
    ] = "imagenet",
    positive: Annotated[str | None, typer.Option(help=_POSITIVE, metavar="FOLDER")] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Regular expression for what must stay on one side of the split, e.g. the "
            r"photo number: '(\d+)-'.",
            metavar="REGEX",
        ),
    ] = None,
    skip_unreadable: Annotated[bool, typer.Option("--skip-unreadable", help=_SKIP)] = False,
    cache_features: Annotated[
        bool,
        typer.Option(
            help="Run the frozen base once over the images, keep its features, train on them; "
            "or run it in every epoch, over ever new variants of the images."
        ),
    ] = True,
    views: Annotated[
        int, typer.Option(help="Augmented variants of each training image to cache.")
    ] = 0,
) -> None:
    """Trains a classifier on a folder of images and saves it.

    It is tested on images that played no part in training. Started again with the same
    arguments, an interrupted training goes on. Curves are in logs/NAME; to see them:
    tensorboard --logdir logs

    \b
    Examples:
      crackclf train data/metu
      crackclf train data/sdnet --group-by '(\\d+)-' --out saved_models/sdnet
    """
    from crackclf.training.pipeline import train_folder

    try:
        folder, _, report = train_folder(
            directory,
            out,
            epochs,
            image_size,
            batch_size,
            validation_split,
            test_split,
            seed,
            None if weights == "random" else weights,
            positive,
            group_by,
            skip_unreadable,
            cache_features,
            views,
        )
    except KeyboardInterrupt:
        notice("interrupted; started again with the same arguments, it goes on")
        raise
    print(f"On the test set: {report}\n\n{report.classification_report}")
    print(f"Saved in {folder}")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help=_MODEL)],
    directory: Annotated[Path, typer.Argument(help=_DATA)],
    positive: Annotated[str | None, typer.Option(help=_POSITIVE, metavar="FOLDER")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write all figures there.", metavar="FILE")
    ] = None,
    skip_unreadable: Annotated[bool, typer.Option("--skip-unreadable", help=_SKIP)] = False,
) -> None:
    """Measures a saved model on a folder of labelled images.

    The class folders may have other names than those the model was trained on.

    \b
    Examples:
      crackclf evaluate saved_models/first data/metu
      crackclf evaluate shipped data/bridge --positive damaged --json bridge.json
    """
    from crackclf.data.files import check_result_path, write_whole
    from crackclf.inference.evaluation import evaluate_folder
    from crackclf.models.saving import load_model, model_folder

    if json_file is not None:
        check_result_path(json_file, _RESULT_HEAD)
    report = evaluate_folder(
        load_model(model), directory, positive, skip_unreadable, model_folder(model)
    )
    print(f"{report}\n\n{report.classification_report}")
    print(f"Confusion matrix (rows true, columns predicted: {', '.join(report.class_names)})")
    print("\n".join("  " + "".join(f"{n:>8}" for n in row) for row in report.confusion_matrix))
    if json_file is not None:
        result = {"written_by": "crackclf", "model": str(model), "data": str(directory)}
        write_whole(json_file, json.dumps(result | report.to_dict(), indent=2) + "\n")


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(help="Images and folders of images.")],
    model: Annotated[str, typer.Option(help=_MODEL)] = "shipped",
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Also write a table there.", metavar="FILE")
    ] = None,
) -> None:
    """Says of each image whether it shows a crack.

    Prints the probability of a crack, the class and the file. Exit status 2 when some image
    could not be read; the others are predicted all the same.

    \b
    Examples:
      crackclf predict wall.jpg
      crackclf predict photos/ --csv cracks.csv
      crackclf predict photos/ --model saved_models/first
    """
    from crackclf.data.files import check_result_path, write_whole
    from crackclf.inference.predict import find_images
    from crackclf.inference.predict import predict as predict_images
    from crackclf.models.saving import load_model

    if csv_file is not None:
        check_result_path(csv_file, _CSV_HEAD)
    files = find_images(paths)
    predictions = predict_images(files, load_model(model))
    if csv_file is not None:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerows([p.file, p.label, p.probability, p.error] for p in predictions)
        write_whole(csv_file, _CSV_HEAD + table.getvalue())
    unreadable = [p for p in predictions if p.error]
    for prediction in predictions:
        if not prediction.error:
            print(f"{prediction.probability:.4f}  {prediction.label}  {prediction.file}")
    for prediction in unreadable:
        notice(prediction.error)
    if unreadable:
        raise UserError(f"{len(unreadable)} of {len(predictions)} images could not be read.")


def main() -> None:
    """Runs the command line; a user's mistake ends in one message and exit status 2."""
    # TensorFlow's start-up notes about processors and graphics cards help no user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        app()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"Error: {error.filename}: {error.strerror}.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
