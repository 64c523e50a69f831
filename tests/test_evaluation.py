import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from crackclf.calibration import softmax, to_logits
from crackclf.errors import UserError
from crackclf.evaluation import calibration_error, compute_report, group_intervals

NAMES = ("Negative", "Positive")
LABELS = np.array([0, 0, 0, 1, 1])
POSITIVE = np.array([0.1, 0.2, 0.9, 0.8, 0.4])
PROBABILITIES = np.stack([1 - POSITIVE, POSITIVE], axis=1)


def test_every_figure_is_what_one_computes_by_hand():
    report = compute_report(LABELS, PROBABILITIES, NAMES, files=list("abcde"))
    assert report.n == 5
    assert report.accuracy == pytest.approx(3 / 5)
    assert report.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert report.precision == pytest.approx(1 / 2)
    assert report.recall == pytest.approx(1 / 2)
    assert report.f1 == pytest.approx(1 / 2)
    assert report.recall_interval == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert report.precision_interval == report.recall_interval
    assert report.auroc == pytest.approx(4 / 6)
    assert report.loss == pytest.approx(-np.log([0.9, 0.8, 0.1, 0.8, 0.4]).mean())
    assert report.confusion_matrix == ((2, 1), (1, 1))
    wrong = [(x.file, x.label, x.predicted) for x in report.misclassified]
    assert wrong == [("c", "Negative", "Positive"), ("e", "Positive", "Negative")]
    assert "recall 0.5000 (0.0945 to 0.9055)" in str(report)
    assert "AUROC" not in str(report)  # Of so few images.


def test_the_wilson_interval_agrees_with_its_published_example():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    labels = np.ones(263, int)
    labels[:81] = 0
    report = compute_report(labels, np.tile([0.9, 0.1], (263, 1)), NAMES)
    assert report.accuracy_interval == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_the_positive_class_may_be_the_first_one():
    report = compute_report(1 - LABELS, PROBABILITIES[:, ::-1], ("crack", "no_crack"))
    assert report.positive_class == "crack"
    assert report.auroc == pytest.approx(4 / 6)
    assert report.confusion_matrix == ((1, 1), (1, 2))


def test_one_class_alone_has_no_auroc_and_still_a_report():
    report = compute_report(np.zeros(5, int), PROBABILITIES, NAMES)
    assert (report.auroc, report.average_precision) == (None, None)
    assert report.balanced_accuracy == pytest.approx(3 / 5)


def test_calibration_error_is_zero_when_confidence_is_deserved():
    probabilities = np.tile([0.75, 0.25], (4, 1))
    assert calibration_error(np.array([0, 0, 0, 1]), probabilities) == pytest.approx(0)
    assert calibration_error(np.array([1, 1, 1, 1]), probabilities) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("labels", "probabilities", "files", "words"),
    [
        (LABELS, PROBABILITIES[:4], None, "Received"),
        (LABELS[:0], PROBABILITIES[:0], None, "n > 0"),
        (LABELS, PROBABILITIES, ["a"], "n files"),
        (LABELS, PROBABILITIES * np.nan, None, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(labels, probabilities, files, words):
    with pytest.raises(UserError, match=words):
        compute_report(labels, probabilities, NAMES, files)


def test_a_report_is_json_with_the_figures_of_the_positive_class():
    # One-hot labels are understood, too.
    report = json.loads(
        json.dumps(compute_report(np.eye(2)[LABELS], PROBABILITIES, NAMES).to_dict())
    )
    positive = {k: v for k, v in report["classes"][1].items() if k not in ("name", "n")}
    assert positive.items() <= report.items()
    assert report["confusion_matrix"] == [[2, 1], [1, 1]]


SEVERAL = ("cracked", "joint", "spalled")


def draw_three(n=600, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return labels, softmax(rng.normal(size=(n, 3)) + 2 * np.eye(3)[labels]).astype(float)


def test_three_classes_are_counted_in_a_three_by_three_matrix():
    labels, probabilities = draw_three()
    report = compute_report(labels, probabilities, SEVERAL)
    others = probabilities[:, 1:].argmax(axis=1) + 1
    called = np.where(probabilities[:, 0] >= 0.5, 0, others)
    assert report.confusion_matrix == tuple(
        tuple(int(((labels == i) & (called == j)).sum()) for j in range(3)) for i in range(3)
    )
    assert report.accuracy == pytest.approx((called == labels).mean())
    assert report.balanced_accuracy == pytest.approx(np.mean([x.recall for x in report.classes]))
    assert len(report.classification_report.splitlines()) == 9


def test_each_class_has_its_figures_against_all_others():
    labels, probabilities = draw_three()
    report = compute_report(labels, probabilities, SEVERAL)
    for c, figures in enumerate(report.classes):
        alone = np.stack([1 - probabilities[:, c], probabilities[:, c]], axis=1)
        expected = compute_report((labels == c).astype(int), alone, ("rest", "cracked"))
        assert figures.auroc == pytest.approx(expected.auroc)
        assert figures.average_precision == pytest.approx(expected.average_precision)
        assert figures.recall_interval[0] < figures.recall < figures.recall_interval[1]
    assert report.auroc == report.classes[0].auroc
    for line, figures in zip(str(report).splitlines()[2:5], report.classes, strict=True):
        assert line.startswith(f"{figures.name}: {figures.n} images  recall ")
        assert f"AUROC {figures.auroc:.4f}  average precision" in line


def test_calibration_comes_first_and_what_was_before_is_told():
    labels, probabilities = draw_three()
    report = compute_report(labels, probabilities, SEVERAL, temperature=0.8)
    by_hand = compute_report(labels, softmax(to_logits(probabilities), 0.8), SEVERAL)
    assert report.loss == pytest.approx(by_hand.loss)
    assert report.calibration_error == pytest.approx(by_hand.calibration_error)
    before = compute_report(labels, probabilities, SEVERAL)
    assert report.uncalibrated_loss == before.loss
    assert "(before calibration 0.4480 and 0.1307, temperature 0.80)" in str(report)
    assert "before calibration" not in str(before)


def test_each_image_may_have_a_threshold_and_a_temperature_of_its_own():
    lower = compute_report(LABELS, PROBABILITIES, NAMES, threshold=0.4)
    assert lower.confusion_matrix == ((2, 1), (0, 2))
    thresholds = np.array([0.5, 0.5, 0.95, 0.5, 0.3])
    report = compute_report(LABELS, PROBABILITIES, NAMES, threshold=thresholds)
    assert (report.accuracy, report.threshold) == (1, 0.5)
    twice = compute_report(LABELS, PROBABILITIES, NAMES, temperature=np.full(5, 2.0))
    assert twice == compute_report(LABELS, PROBABILITIES, NAMES, temperature=2.0)


def test_of_uneven_classes_balanced_accuracy_is_said_first():
    labels = np.repeat([0, 1], [400, 40])
    report = compute_report(labels, np.tile([0.9, 0.1], (440, 1)), NAMES)
    lines = str(report).splitlines()
    assert lines[1] == "balanced accuracy 0.5000, average precision 0.0909"
    assert lines[-1].endswith("is misleading: the classes have 400 and 40 images")


def test_a_class_without_images_is_neither_uneven_nor_printed():
    labels, probabilities = draw_three()
    some = labels < 2
    report = compute_report(labels[some], probabilities[some], SEVERAL)
    assert report.classes[2].n == 0
    assert report.balanced_accuracy == pytest.approx(
        np.mean([x.recall for x in report.classes[:2]])
    )
    assert "spalled" not in str(report)
    assert "misleading" not in str(report)


def test_the_most_confidently_wrong_come_first_among_sound_classes_too():
    labels = np.array([1, 1, 0, 1])
    probabilities = np.array([[0.0, 0.45, 0.55], [0.0, 0.0, 1.0], [0.2, 0.4, 0.4], [0.7, 0.2, 0.1]])
    wrong = compute_report(labels, probabilities, SEVERAL).misclassified
    assert [(x.file, x.predicted, x.probability) for x in wrong] == [
        ("1", "spalled", 0.0),
        ("2", "joint", 0.2),
        ("3", "cracked", 0.7),
        ("0", "spalled", 0.0),
    ]


RNG = np.random.default_rng(0)
CRACKED = np.arange(60) % 2 == 1
SCORES = np.clip(0.5 + 0.2 * (CRACKED - 0.5) + 0.2 * RNG.normal(size=60), 0, 1).round(2)


def test_copies_of_images_in_one_group_make_no_interval_narrower():
    alone = group_intervals(CRACKED, SCORES, range(60))
    low, high = alone["auroc"]
    assert low < roc_auc_score(CRACKED, SCORES) < high
    copies = [np.repeat(x, 4) for x in (CRACKED, SCORES, np.arange(60))]
    together = group_intervals(*copies)
    for name, interval in alone.items():
        assert together[name] == pytest.approx(interval)
    apart = group_intervals(copies[0], copies[1], range(240))["auroc"]
    assert apart[1] - apart[0] == pytest.approx((high - low) / 2, rel=0.25)


def test_the_intervals_are_those_of_groups_drawn_again_and_again():
    rng, drawn = np.random.default_rng(0), []
    for _ in range(1000):
        at = rng.integers(0, 60, 60)
        positive, negative = SCORES[at][CRACKED[at]], SCORES[at][~CRACKED[at]]
        more = np.sign(positive[:, None] - negative)
        balanced = ((positive >= 0.5).mean() + (negative < 0.5).mean()) / 2
        drawn.append(((1 + more.mean()) / 2, balanced))
    expected = np.quantile(drawn, (0.025, 0.975), axis=0).T
    np.testing.assert_allclose([*group_intervals(CRACKED, SCORES, range(60)).values()], expected)
