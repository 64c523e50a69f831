"""`crackclf evaluate`."""

from crackclf.cli import options


def evaluate(
    model: options.Model,
    directory: options.Labelled,
    positive: options.Positive = None,
    json_file: options.Json = None,
    skip_unreadable: options.SkipUnreadable = False,
    sha256: options.Sha256 = None,
) -> None:
    """Measures a saved model on a folder of labelled images.

    For a model of two classes the folders may have any names. --positive then
    says which one holds the cracked images.

    Examples:
      crackclf evaluate saved_models/first data/metu
      crackclf evaluate shipped data/bridge --positive damaged --json bridge.json
    """
    options.check_folder(directory)
    options.check_model(model, sha256)
    from crackclf.files import check_result_path
    from crackclf.prediction.evaluate import evaluate as measure

    if json_file is not None:
        check_result_path(json_file, options.RESULT_HEAD)
    report = measure(directory, model, positive=positive, skip_unreadable=skip_unreadable)
    print(f"{report}\n\n{report.classification_report}")
    print(f"Confusion matrix (rows true, columns predicted: {', '.join(report.class_names)})")
    print("\n".join("  " + "".join(f"{n:>8}" for n in row) for row in report.confusion_matrix))
    if json_file is not None:
        about = {"model": str(model), "data": str(directory)}
        options.write_result(json_file, about | report.to_dict())
