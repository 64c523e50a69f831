import io
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest

from conftest import save_noise
from crackclf import plots
from crackclf.evaluation import compute_report

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
    # Of a training that was not watched.
    [axis, _] = plots.plot_history({"loss": [1.0, 0.5], "accuracy": [0.5, 0.8]}).axes
    assert [line.get_label() for line in axis.lines] == ["training"]


def test_misclassified_images_are_titled_with_what_they_are_and_were_called(report):
    titles = [axis.get_title() for axis in plots.plot_misclassified(report.misclassified).axes]
    first, second = ("true Negative\npredicted Positive", "true Positive\npredicted Negative")
    assert titles[:2] == [f"{first}\n0.80", f"{second}\n0.40"]
    assert plots.plot_misclassified([]).get_suptitle() == "no image is misclassified"
    assert plt.get_fignums() == []  # An open figure would be shown twice in a notebook.


def test_a_files_name_is_no_formula():
    figure = plots.plot_images([np.zeros((2, 2, 3))], ["$\\frac$.jpg"])
    figure.canvas.draw()
    assert figure.axes[0].get_title() == "$\\frac$.jpg"


def test_a_confusion_matrix_of_many_classes_has_room_for_their_names():
    labels = np.arange(24) % 6
    names = ["crack", *(f"another kind {i}" for i in range(5))]
    figure = plots.plot_confusion_matrix(compute_report(labels, np.eye(6)[labels], names))
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(a.y0 >= b.y1 or a.y1 <= b.y0 for a, b in pairwise(boxes))


def test_letters_that_the_font_lacks_are_escaped_and_not_drawn_as_boxes(recwarn):
    names = ("无裂缝", "裂缝")
    report = compute_report(LABELS, PROBABILITIES, names, positive="裂缝")
    figure = plots.plot_confusion_matrix(report)
    figure.savefig(io.BytesIO())
    assert [x.get_text() for x in figure.axes[0].texts] == ["1", "1", "1", "1"]
    assert [x.get_text() for x in figure.axes[0].get_xticklabels()][1] == r"\u88c2\u7f1d"
    assert not [x for x in recwarn if "missing from" in str(x.message)]


def test_a_patch_stands_beside_itself_with_the_evidence():
    patch, heat = np.full((4, 4, 3), 100.0), np.eye(4)
    axes = plots.plot_explanations([patch], [heat], ["p"], columns=1).axes
    plain, laid = (axis.images[0].get_array() for axis in axes)
    assert (plain == 100).all()
    assert ((laid != plain).any(axis=2) == (heat > 0)).all()
