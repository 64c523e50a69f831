"""`crackclf predict`."""

from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import cluster, options
from crackclf.errors import UserError, notice, show

_COLUMNS = ("file", "label", "probability", "error")


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Images, or folders of images. With --engine ray also s3:// and gs://."
        ),
    ],
    model: options.ModelOption = "shipped",
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Also write a table to this file.", metavar="FILE"),
    ] = None,
    engine: cluster.EngineOption = cluster.Engine.LOCAL,
    address: cluster.Address = None,
    parquet: cluster.Parquet = None,
    sha256: options.Sha256 = None,
) -> None:
    """Predicts for each image whether it shows a crack.

    Each line has the probability of a crack, the class and the file. The
    table of --csv also has the other probabilities of a model of three or
    more classes. The exit status is 2 when an image cannot be read. The other
    images are predicted.

    Examples:
      crackclf predict wall.jpg
      crackclf predict photos/ --csv cracks.csv
      crackclf predict photos/ --model saved_models/first
      crackclf predict s3://bridges/2026/ --engine ray --parquet cracks/
    """
    cluster.check_engine(engine, address)
    options.check_model(model, sha256)
    cluster.check_results(engine, parquet, csv_file)
    if parquet is not None:
        from crackclf.ray.carried import Predictor

        with options.resumable():
            cluster.answer(Predictor(model), paths, parquet, address)
        return
    from crackclf.files import check_result_path, format_table, write_whole
    from crackclf.images.listing import find_images
    from crackclf.prediction.classifier import load_model
    from crackclf.prediction.predict import predict as predict_images

    if csv_file is not None:
        csv_file = check_result_path(csv_file, ",".join(_COLUMNS))
    classifier = load_model(model)
    predictions = predict_images(find_images(paths), classifier)
    if csv_file is not None:
        names = classifier.card.class_names
        more = names if len(names) > 2 else ()
        rows = (dict(zip(more, p.probabilities, strict=False)) | vars(p) for p in predictions)
        write_whole(csv_file, format_table([*_COLUMNS, *more], rows))
    card = classifier.card
    notice(f"{card.positive_class}: a probability of {card.threshold:.4f} or more")
    unreadable = [p for p in predictions if p.error]
    for prediction in predictions:
        if not prediction.error:
            print(f"{prediction.probability:.4f}  {prediction.label}  {show(prediction.file)}")
    for prediction in unreadable:
        notice(prediction.error)
    if unreadable:
        raise UserError(f"{len(unreadable)} of {len(predictions)} images could not be read.")
