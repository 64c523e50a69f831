import csv
from pathlib import Path

from crackclf.pipeline import train_folder


def test_every_image_is_tested_once_and_the_model_learns_from_all(
    sample, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    settings = {"image_size": 32, "batch_size": 8, "backbone": tiny, "weights": "random"}
    folder, classifier, report = train_folder(
        sample, folds=3, epochs=1, augmentation=False, **settings
    )
    assert report.n == 48 == sum(fold.n for fold in report.folds)
    assert len(report.folds) == 3
    low, high = report.intervals["auroc"]
    assert low <= report.auroc <= high
    assert "by fold" in str(report)
    rows = list(csv.DictReader((folder / "out_of_fold.csv").open()))
    assert len({row["file"] for row in rows}) == 48
    assert {row["fold"] for row in rows} == {"1", "2", "3"}
    assert {float(row["Negative"]) + float(row["Positive"]) for row in rows} <= {1.0, 0.999999}
    split = list(csv.DictReader((folder / "split.csv").open()))
    assert [row["subset"] for row in split] == ["train"] * 48
    assert classifier.card.metrics["out_of_fold"]["loss"] == report.loss
    logs = Path("logs") / folder.name
    names = {path.name for path in logs.iterdir()}
    assert names > {"fold-1", "fold-2", "fold-3", "train"}
    assert not (logs / "validation").exists()
    # The whole folder's features are computed once, whatever the fold.
    notices = capsys.readouterr().err
    assert "Fold 3 of 3" in notices
    assert "All images" in notices
    assert "--folds" not in notices
    assert len(list((sample / ".crackclf" / "features").iterdir())) <= 8
