import pytest

from crackclf.errors import UserError
from crackclf.pipeline import train_folder
from crackclf.settings import TrainSettings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1"),
        ({"patience": 0}, "patience must be 1 or more"),
        ({"views": 0}, "views must be 1 or more"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"seed": 2**32}, "seed must be from 0 to"),
        ({"class_weights": "heavy"}, "class_weights must be one of auto, balanced, none"),
        ({"class_weights": None}, "class_weights must be one of auto, balanced, none"),
        ({"threshold_for": "f1"}, "threshold_for must be recall=NUMBER or precision="),
        ({"folds": 2}, "folds must be 3 or more"),
        ({"image_size": (32, 40)}, "image_size must be one number of pixels"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_read(settings, words):
    with pytest.raises(UserError, match=words):
        train_folder("nowhere", **settings)


def test_settings_written_to_a_file_are_read_back(tmp_path):
    settings = TrainSettings(epochs=3, weights=None, image_size=(96, 96), group_by=r"(\d+)-")
    (tmp_path / "settings.json").write_text(settings.to_json())
    assert TrainSettings.read(tmp_path / "settings.json") == settings
    assert (settings.weights, settings.image_size) == ("random", 96)


@pytest.mark.parametrize("text", ["{", "[1]", '{"epoch": 3}', '{"epochs": 0}', '{"epochs": "x"}'])
def test_a_file_of_other_settings_is_refused(text, tmp_path):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(UserError, match=r"settings\.json: "):
        TrainSettings.read(tmp_path / "settings.json")
    with pytest.raises(UserError, match=r"missing\.json: cannot be read"):
        TrainSettings.read(tmp_path / "missing.json")
