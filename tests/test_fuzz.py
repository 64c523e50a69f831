"""Whatever comes in, what comes out is an answer or a UserError, never a traceback.

`pytest tests/test_fuzz.py --hypothesis-profile=long` tries many more cases, others each time.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from crackclf.data.splits import connect, split_groups
from crackclf.errors import UserError
from crackclf.images.check import check_image
from crackclf.images.decode import read_image
from crackclf.saved.card import Card

_RAMP = Image.fromarray(np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3))


def _encode(suffix: str, mode: str = "RGB", **options) -> tuple[str, bytes]:
    content = io.BytesIO()
    image = Image.fromarray(np.arange(144, dtype=np.uint16).reshape(12, 12) * 400)
    if mode != "I;16":
        image = _RAMP.convert(mode)
    image.save(content, Image.registered_extensions()[suffix], **options)
    return suffix, content.getvalue()


CORPUS = [
    _encode(".jpg"),
    _encode(".jpg", "L", progressive=True),
    _encode(".jpg", "CMYK"),
    _encode(".png"),
    _encode(".png", "L"),
    _encode(".png", "P"),
    _encode(".png", "RGBA"),
    _encode(".png", "I;16"),
    _encode(".bmp"),
    _encode(".gif", "P"),
    _encode(".tif"),
    _encode(".tif", compression="tiff_lzw"),
    _encode(".webp"),
]
DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["set", "flip", "cut", "insert", "end"]),
        st.integers(0, 2000),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def damage(content: bytes, steps: list[tuple[str, int, bytes]]) -> bytes:
    for step, at, given_bytes in steps:
        at, n = at % (len(content) + 1), len(given_bytes)
        old = content[at : at + n]
        new = {
            "set": given_bytes,
            "flip": bytes(a ^ b for a, b in zip(old, given_bytes, strict=False)),
            "cut": b"",
            "insert": given_bytes + old,
        }
        content = content[:at] if step == "end" else content[:at] + new[step] + content[at + n :]
    return content


@given(st.sampled_from(CORPUS), DAMAGE)
@example(CORPUS[3], [("set", 2000, b"x")])  # A PNG's end, which Pillow does not miss.
@example(_encode(".png"), [("flip", 40, b"\x01")])
@example(_encode(".bmp"), [("insert", 438, b"\x00\x00")])  # One row too many, likewise.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_image_is_read_or_refused(tmp_path: Path, whole: tuple[str, bytes], steps):
    import tensorflow as tf

    path = tmp_path / f"image{whole[0]}"
    path.write_bytes(damage(whole[1], steps))
    check = check_image(path)
    try:
        pixels = read_image(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
        assert check.problem
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    if check.plain:  # Promised to be read by TensorFlow, too, and as the same picture.
        theirs = tf.io.decode_image(path.read_bytes(), 3, expand_animations=False).numpy()
        assert theirs.shape == pixels.shape


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(0, 20)), min_size=1, max_size=60
    ),
    st.tuples(st.floats(0.01, 0.4), st.floats(0.01, 0.4)),
    st.integers(0, 2**32 - 1),
)
def test_a_split_never_parts_what_belongs_together(rows, held_out, seed):
    labels, digests, photos = (np.array(column) for column in zip(*rows, strict=True))
    groups = connect(digests, photos)
    fractions = (1 - sum(held_out), *held_out)
    subset = split_groups(labels, groups, fractions, seed)
    assert subset.shape == labels.shape
    assert set(subset) <= {0, 1, 2}
    for keys in (digests, photos):
        for key in keys:
            assert len(set(subset[keys == key])) == 1
    np.testing.assert_array_equal(subset, split_groups(labels, groups, fractions, seed))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
SOUND = json.loads(
    Card(("Negative", "Positive"), "Positive", 160, sha256={"model.keras": "00"}).to_json()
)


@given(st.dictionaries(st.sampled_from([*SOUND, "other"]), JSON), st.none() | DAMAGE)
@example({"temperature": float("inf")}, None)
@example({"metrics": [[]]}, None)
@example({"image_size": "160", "cell_size": 32}, None)
@example({"sha256": "00"}, None)  # As version 0.1.0 has it.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_card_is_sound_or_refused(tmp_path: Path, changes, steps):
    path = tmp_path / "card.json"
    content = json.dumps(SOUND | changes).encode()
    path.write_bytes(damage(content, steps) if steps else content)
    try:
        card = Card.read(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
        return
    assert card.positive_class in card.class_names
    assert isinstance(card.image_size, int)
    assert 0 <= card.threshold <= 1
    assert 0 < card.temperature < float("inf")
    assert card.cell_size >= 0
    assert all(isinstance(digest, str) for digest in card.sha256.values())
    assert Card.read(path) == card
    assert json.loads(card.to_json())


def test_a_card_as_deep_as_a_well_is_refused(tmp_path):
    path = tmp_path / "card.json"
    path.write_text('{"metrics": ' + "[" * 10**5)
    with pytest.raises(UserError, match="is not valid JSON"):
        Card.read(path)


WORDS = st.sampled_from(
    [
        *("sample", "download", "audit", "train", "compare", "evaluate", "predict"),
        *("--help", "--out", "--epochs", "--seed", "--json", "--csv", "--html", "--quarantine"),
        *("--image-size", "--batch-size", "--validation-split", "--test-split", "--count"),
        *("--weights", "--backbone", "--backbones", "--model", "--positive", "--group-by", "--"),
        *("--skip-unreadable", "--no-cache-features", "--views", "--archive", "--random-weights"),
        *("data", "broken", "notes.txt", "nowhere", "new", ".", "/dev/null", "a\0b", "", "[("),
        *("-1", "0", "1", "3", "0.5", "1e400", "nan", "none", "random", "shipped", "mobilenetv2"),
    ]
) | st.text(max_size=6)


@pytest.fixture
def place(make_folder, tmp_path, monkeypatch) -> Path:
    """A folder to work in, where whatever would take minutes ends at once."""

    def costly(*_, **__):
        raise UserError("expected this to take long.")

    make_folder({"Negative": 4, "Positive": 4}, "data")
    make_folder({"Negative": 1}, "broken")
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    for name in (
        *("training.stages.build_model", "training.stages.train", "audit.audit.build_model"),
        *("training.compare.subprocess.run", "data.metu.fetch"),
    ):
        monkeypatch.setattr(f"crackclf.{name}", costly)
    return tmp_path


@given(st.lists(WORDS, max_size=7))
@example(["evaluate", "shipped", "data", "--json", "a\0b"])
@example(["train", "data", "--weights", "random", "--validation-split", "nan"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_command_line_ends_in_an_exit_status(place, words):
    from crackclf import cli

    out, err, arguments = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["crackclf", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as ended:
        assert ended.code in (0, 1, 2, None), words
        assert ended.code != 2 or err.getvalue() or not words  # No words at all get the help.
    finally:
        sys.argv = arguments
    assert (place / "notes.txt").read_text() == "mine"
    assert len(list((place / "data").glob("*/*.png"))) == 8
