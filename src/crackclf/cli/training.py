"""Commands that make models."""

import json
from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import cluster, options


def train(
    directory: options.Splittable,
    out: Annotated[
        Path | None,
        typer.Option(help="Model folder to make.  [default: saved_models/BACKBONE-N]"),
    ] = None,
    epochs: options.Epochs = 10,
    image_size: options.ImageSize = 160,
    batch_size: options.BatchSize = 32,
    validation_split: options.ValidationSplit = 0.2,
    test_split: options.TestSplit = 0.2,
    seed: options.Seed = 0,
    backbone: Annotated[
        str, typer.Option(help="Base; `crackclf compare --help` lists them.")
    ] = "mobilenetv2",
    weights: Annotated[
        str,
        typer.Option(
            help="Base weights: imagenet, concrete, random, or a .weights.h5 or .h5 file."
        ),
    ] = "imagenet",
    positive: options.Positive = None,
    group_by: options.GroupBy = None,
    skip_unreadable: options.SkipUnreadable = False,
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
    engine: cluster.EngineOption = cluster.Engine.LOCAL,
    address: cluster.Address = None,
) -> None:
    """Trains a classifier on a folder of images and saves it.

    It is tested on images that played no part in training. Started again with the same
    arguments, an interrupted training goes on. Curves are in logs/NAME; to see them:
    tensorboard --logdir logs

    With --engine ray a cluster computes the features that are cached; the head is then trained
    here, in seconds.

    \b
    Examples:
      crackclf train data/metu
      crackclf train data/sdnet --group-by '(\\d+)-' --out saved_models/sdnet
    """
    cluster.check_engine(engine, address)
    from crackclf.evaluation.curves import diagnose, read_curves
    from crackclf.training.pipeline import train_folder

    with options.resumable():
        folder, _, report = train_folder(
            directory,
            out,
            epochs,
            image_size,
            batch_size,
            validation_split,
            test_split,
            seed,
            backbone,
            None if weights == "random" else weights,
            positive,
            group_by,
            skip_unreadable,
            cache_features,
            views,
            (address or "local") if engine == cluster.Engine.RAY else None,
        )
    print(f"On the test set: {report}\n\n{report.classification_report}")
    print(f"Curves: {diagnose(read_curves(Path('logs') / folder.name))}\n")
    print(f"Saved in {folder}")


def compare(
    directory: options.Splittable,
    backbones: Annotated[
        list[str],
        typer.Option(
            help="Two or more of mobilenetv2, mobilenetv3large, vgg16, vgg16-block4 (cut off "
            "behind its fourth block), resnet50, resnet50v2, efficientnetv2b0, convnexttiny, "
            "resnet18-torch (in PyTorch, an extra).",
            metavar="NAME ...",
        ),
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for figures and plot; the models go to OUT-NAME, the curves to logs/."
        ),
    ] = Path("saved_models/comparison"),
    epochs: options.Epochs = 10,
    image_size: options.ImageSize = 160,
    batch_size: options.BatchSize = 32,
    validation_split: options.ValidationSplit = 0.2,
    test_split: options.TestSplit = 0.2,
    seed: options.Seed = 0,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Bases as built, where no weights can be had.")
    ] = False,
    positive: options.Positive = None,
    group_by: options.GroupBy = None,
    skip_unreadable: options.SkipUnreadable = False,
    json_file: options.Json = None,
) -> None:
    """Trains a classifier on each of several bases and says which is worth its cost.

    All have the same split, head and number of epochs. Accuracy comes with its 95 % interval, each
    pair with McNemar's exact test on the same test images. A base whose weights cannot be had is
    named and left out. Interrupted, and started again with the same arguments, it goes on with
    those that are not done.

    \b
    Examples:
      crackclf compare data/metu --backbones vgg16 resnet50 mobilenetv2
      crackclf compare data/metu --backbones vgg16 vgg16-block4 --json vgg.json
    """
    from crackclf.data.files import check_result_path, write_whole
    from crackclf.training.comparison import compare as compare_backbones

    if json_file is not None:
        check_result_path(json_file, options.RESULT_HEAD)
    with options.resumable():
        comparison = compare_backbones(
            directory,
            [*backbones, *(more or [])],
            out,
            epochs=epochs,
            image_size=image_size,
            batch_size=batch_size,
            validation_split=validation_split,
            test_split=test_split,
            seed=seed,
            weights=None if random_weights else "imagenet",
            positive=positive,
            group_by=group_by,
            skip_unreadable=skip_unreadable,
        )
    print(comparison)
    print(f"Figures and plot in {out}")
    if json_file is not None:
        result = {"written_by": "crackclf", "data": str(directory)}
        write_whole(json_file, json.dumps(result | comparison.to_dict(), indent=2) + "\n")
