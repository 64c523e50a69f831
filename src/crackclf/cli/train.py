"""`crackclf train`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from crackclf.cli import cluster, options


@options.with_settings
def train(
    directory: options.Splittable,
    out: Annotated[
        Path | None,
        typer.Option(help="Model folder to make.  \\[default: saved_models/BACKBONE-N]"),
    ] = None,
    engine: cluster.EngineOption = cluster.Engine.LOCAL,
    address: cluster.Address = None,
    **settings: Any,
) -> None:
    """Trains a classifier on a folder of images and saves it.

    It trains on augmented images, is calibrated on the validation images, and is tested on images
    that played no part in either. Started again with the same arguments, an interrupted training
    goes on. Curves are in logs/NAME; to see them: tensorboard --logdir logs

    With --settings a training is repeated as it was, or with what other options change. With
    --engine ray a cluster computes the features that are cached; the head is then trained here,
    in seconds.

    \b
    Examples:
      crackclf train data/metu
      crackclf train data/sdnet --group-by '(\\d+)-' --threshold-for recall=0.98
      crackclf train data/own --folds 5 --fine-tune 2
      crackclf train data/metu --settings saved_models/first/settings.json --seed 1
    """
    cluster.check_engine(engine, address)
    options.check_folder(directory)
    from crackclf.evaluation.curves import diagnose, read_history
    from crackclf.features.extract import compute_here
    from crackclf.training.run import train_folder

    mapper = compute_here
    if engine == cluster.Engine.RAY:
        from crackclf.ray.features import compute_on_cluster

        mapper = partial(compute_on_cluster, address=address)
    with options.resumable():
        folder, _, report = train_folder(directory, out, mapper=mapper, **settings)
    print(f"{'Out of fold' if hasattr(report, 'folds') else 'On the test set'}: {report}\n")
    print(report.classification_report)
    if not hasattr(report, "folds"):  # Else nothing was watched in the training on all images.
        print(f"Curves: {diagnose(read_history(folder / 'history.csv'))}\n")
    print(f"Saved in {folder}")
