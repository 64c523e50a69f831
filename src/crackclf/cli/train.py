"""`crackclf train`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from crackclf.cli import cluster, options
from crackclf.quiet import import_tensorflow


@options.with_settings
def train(
    directory: options.Splittable,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the model.  \\[default: saved_models/BACKBONE-N]"),
    ] = None,
    engine: cluster.EngineOption = cluster.Engine.LOCAL,
    address: cluster.Address = None,
    **settings: Any,
) -> None:
    r"""Trains a classifier on a folder of images and saves it.

    The model is trained on augmented images, calibrated on the validation
    images, and tested on images that are used for nothing else. To go on
    after an interruption, run the same command again. The curves are in
    logs/NAME. To see them: tensorboard --logdir logs

    --settings repeats an earlier training. Other options change it. With
    --engine ray a cluster computes the cached features. The head is then
    trained here, in seconds.

    Examples:
      crackclf train data/metu
      crackclf train data/sdnet --group-by '(\d+)-' --threshold-for recall=0.98
      crackclf train data/own --folds 5 --fine-tune 2
      crackclf train data/metu --settings first/settings.json --seed 1
    """
    cluster.check_engine(engine, address)
    options.check_folder(directory)
    import_tensorflow()
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
