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
