import io
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest

from conftest import save_noise
from crackclf.evaluation import plots
from crackclf.evaluation.metrics import compute_report

LABELS = np.array([0, 0, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])


@pytest.fixture
def report(tmp_path):
    files = [save_noise(tmp_path / f"{i}.png", i) for i in range(4)]
    return compute_report(LABELS, PROBABILITIES, ("Negative", "Positive"), files)


def test_curves_show_both_sets_and_mark_the_best_epoch():
    history = {
        "loss": [1.0, 0.5, 0.2],
        "val_loss": [1.0, 0.4, 0.6],
        "accuracy": [0.5, 0.8, 0.9],
        "val_accuracy": [0.5, 0.8, 0.7],
    }
    axes = plots.plot_history(history).axes
    assert [line.get_label() for line in axes[1].lines] == ["training", "validation", "best epoch"]
    assert list(axes[0].lines[2].get_xdata()) == [2, 2]


def test_misclassified_images_are_titled_with_what_they_are_and_were_called(report):
    titles = [axis.get_title() for axis in plots.plot_misclassified(report.misclassified).axes]
    assert titles[:2] == ["is Negative\nsaid Positive (0.80)", "is Positive\nsaid Negative (0.40)"]


def test_a_files_name_is_no_formula():
    figure = plots.plot_images([np.zeros((2, 2, 3))], ["$\\frac$.jpg"])
    figure.canvas.draw()
    assert figure.axes[0].get_title() == "$\\frac$.jpg"


def test_no_misclassified_image_is_said_in_words():
    figure = plots.plot_misclassified([])
    assert figure.axes[0].texts[0].get_text() == "no image is misclassified"


def test_the_confusion_matrix_shows_the_counts(report):
    texts = [text.get_text() for text in plots.plot_confusion_matrix(report).axes[0].texts]
    assert texts == ["1", "1", "1", "1"]


def test_roc_and_precision_recall_stand_side_by_side():
    figure = plots.plot_roc_pr(LABELS == 1, PROBABILITIES[:, 1])
    assert [axis.get_title() for axis in figure.axes] == ["ROC", "precision and recall"]


def test_no_figure_stays_open_to_be_shown_twice(report):
    before = plt.get_fignums()
    plots.plot_confusion_matrix(report)
    assert plt.get_fignums() == before


def test_losses_have_a_mark_for_each_seed_and_a_name_for_each_way():
    losses = {
        "nothing": {"validation": [0.5, 0.6], "test": [0.7, 0.9]},
        "dropout": {"validation": [0.4, 0.5], "test": [0.6, 0.5]},
    }
    [axis] = plots.plot_losses(losses).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["nothing", "dropout"]
    marks = [list(line.get_xdata()) for line in axis.lines]
    assert [0.7, 0.9] in marks
    assert [pytest.approx(0.8)] in marks


def test_calibration_is_drawn_before_and_after(report):
    [axis] = plots.plot_calibration(LABELS, PROBABILITIES, PROBABILITIES**2).axes
    assert [text.get_text().split(":")[0] for text in axis.get_legend().get_texts()] == [
        "before",
        "after",
    ]


def test_curves_of_a_training_that_was_not_watched_have_no_best_epoch():
    axes = plots.plot_history({"loss": [1.0, 0.5], "accuracy": [0.5, 0.8]}).axes
    assert [line.get_label() for line in axes[0].lines] == ["training"]


def test_a_confusion_matrix_of_many_classes_has_room_for_their_names():
    labels = np.arange(24) % 6
    names = ["crack", *(f"another kind {i}" for i in range(5))]
    figure = plots.plot_confusion_matrix(compute_report(labels, np.eye(6)[labels], names))
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(a.y0 >= b.y1 or a.y1 <= b.y0 for a, b in pairwise(boxes))


def test_letters_that_no_font_here_has_are_escaped_and_not_drawn_as_boxes(recwarn, monkeypatch):
    monkeypatch.setattr(plots, "_FONTS", ())
    plots._letters.cache_clear()
    names = ("无裂缝", "裂缝")
    report = compute_report(LABELS, PROBABILITIES, names, positive="裂缝")
    figure = plots.plot_confusion_matrix(report)
    figure.savefig(io.BytesIO())
    assert [x.get_text() for x in figure.axes[0].get_xticklabels()][1] == r"\u88c2\u7f1d"
    assert not [x for x in recwarn if "missing from" in str(x.message)]
    plots._letters.cache_clear()
