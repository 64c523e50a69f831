"""Commands that use models."""

import csv
import io
import json
from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import cluster, options
from crackclf.errors import UserError, notice


def evaluate(
    model: Annotated[str, typer.Argument(help=options.MODEL)],
    directory: options.Labelled,
    positive: options.Positive = None,
    json_file: options.Json = None,
    skip_unreadable: options.SkipUnreadable = False,
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
        check_result_path(json_file, options.RESULT_HEAD)
    report = evaluate_folder(
        load_model(model), directory, positive, skip_unreadable, model_folder(model)
    )
    print(f"{report}\n\n{report.classification_report}")
    print(f"Confusion matrix (rows true, columns predicted: {', '.join(report.class_names)})")
    print("\n".join("  " + "".join(f"{n:>8}" for n in row) for row in report.confusion_matrix))
    if json_file is not None:
        result = {"written_by": "crackclf", "model": str(model), "data": str(directory)}
        write_whole(json_file, json.dumps(result | report.to_dict(), indent=2) + "\n")


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(help="Images and folders of images; with --engine ray also s3://, gs://."),
    ],
    model: Annotated[str, typer.Option(help=options.MODEL)] = "shipped",
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Also write a table there.", metavar="FILE")
    ] = None,
    engine: cluster.EngineOption = cluster.Engine.LOCAL,
    address: cluster.Address = None,
    parquet: cluster.Parquet = None,
) -> None:
    """Says of each image whether it shows a crack.

    Prints the probability of a crack, the class and the file. Exit status 2 when some image
    could not be read; the others are predicted all the same.

    \b
    Examples:
      crackclf predict wall.jpg
      crackclf predict photos/ --csv cracks.csv
      crackclf predict photos/ --model saved_models/first
      crackclf predict s3://bridges/2026/ --engine ray --parquet cracks/
    """
    cluster.check_engine(engine, address)
    cluster.check_results(engine, parquet, csv_file)
    from crackclf.data.files import check_result_path, write_whole
    from crackclf.inference.predict import find_images
    from crackclf.inference.predict import predict as predict_images
    from crackclf.models.saving import load_model

    if parquet is not None:
        from crackclf.inference.predictor import Predictor

        with options.resumable():
            cluster.answer(Predictor(model), paths, parquet, address)
        return
    if csv_file is not None:
        check_result_path(csv_file, options.CSV_HEAD)
    files = find_images(paths)
    predictions = predict_images(files, load_model(model))
    if csv_file is not None:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerows([p.file, p.label, p.probability, p.error] for p in predictions)
        write_whole(csv_file, options.CSV_HEAD + table.getvalue())
    unreadable = [p for p in predictions if p.error]
    for prediction in predictions:
        if not prediction.error:
            print(f"{prediction.probability:.4f}  {prediction.label}  {prediction.file}")
    for prediction in unreadable:
        notice(prediction.error)
    if unreadable:
        raise UserError(f"{len(unreadable)} of {len(predictions)} images could not be read.")
