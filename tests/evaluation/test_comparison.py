import json

import pytest

from crackclf.evaluation.comparison import Comparison, Entry, compare_entries


def entry(name, wrong, n=100):
    return Entry(
        backbone=name,
        weights_origin="somewhere",
        data_fingerprint="f",
        accuracy=1 - len(wrong) / n,
        accuracy_interval=(0.5, 1.0),
        balanced_accuracy=0.8125,
        average_precision=0.7,
        loss=0.1,
        auroc=0.9,
        n=n,
        wrong=tuple(wrong),
        parameters=1_000,
        megabytes=1.5,
        seconds=12.0,
        images_per_second=34.0,
        peak_mb=567.0,
    )


def test_each_two_are_put_to_mcnemars_exact_test():
    entries = [entry("a", "abcdefgh"), entry("b", "h"), entry("c", "h")]
    comparison = compare_entries(entries, {})
    ab, ac, bc = comparison.pairs
    assert (ab.first, ab.second, ab.only_first, ab.only_second) == ("a", "b", 0, 7)
    assert ab.p_value == pytest.approx(2 / 2**7)  # Seven coins on one side, of either side.
    assert ac.p_value == ab.p_value
    assert (bc.only_first, bc.only_second, bc.p_value) == (0, 0, 1.0)


def test_the_table_says_all_and_what_is_missing():
    text = str(
        compare_entries([entry("vgg16", "ab"), entry("other", "")], {"resnet50": "No file."})
    )
    assert "0.9800" in text
    assert "0.5000 to 1.0000" in text
    assert "McNemar's exact p = 0.5" in text
    assert "resnet50: missing. No file." in text
    lines = text.splitlines()
    assert {"balanced", "average"} < set(lines[0].split())
    assert {"0.8125", "0.7000"} < set(lines[1].split())
    assert len({len(line) for line in lines[:3]}) == 1


def test_what_was_not_measured_stays_empty():
    import dataclasses

    bare = dataclasses.replace(entry("a", ""), seconds=None, peak_mb=None, auroc=None)
    text = str(compare_entries([bare], {}))
    assert "None" not in text


def test_a_comparison_becomes_json():
    comparison = compare_entries([entry("a", "x"), entry("b", "")], {"c": "why"})
    assert isinstance(comparison, Comparison)
    assert json.loads(json.dumps(comparison.to_dict()))["missing"] == {"c": "why"}
