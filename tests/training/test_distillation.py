import keras
import numpy as np
import pytest
import tensorflow as tf

from crackclf.training.distillation import (
    LabelledViews,
    build_student,
    fit_resumable,
    label_views,
    read_labelled,
)


def small_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.01), loss="categorical_crossentropy")
    return model


def failing() -> tf.data.Dataset:
    def generate():
        raise RuntimeError("the power fails")
        yield

    return tf.data.Dataset.from_generator(
        generate, output_signature=(tf.TensorSpec((4,)), tf.TensorSpec((2,)))
    )


def test_a_training_broken_off_goes_on_where_it_was(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 4)).astype(np.float32)
    y = np.eye(2, dtype=np.float32)[(x[:, 0] > 0).astype(int)]

    def views(start: int) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((x[start:], y[start:]))

    whole = fit_resumable(small_model, views, 96, 3, tmp_path / "whole.keras")

    starts = []

    def interrupted(start: int) -> tf.data.Dataset:
        starts.append(start)
        return views(start) if len(starts) > 1 else views(start).take(48).concatenate(failing())

    with pytest.raises(tf.errors.UnknownError, match="the power fails"):  # In the second epoch.
        fit_resumable(small_model, interrupted, 96, 3, tmp_path / "broken.keras")
    again = fit_resumable(small_model, interrupted, 96, 3, tmp_path / "broken.keras")
    assert starts == [0, 32]
    for a, b in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    fit_resumable(small_model, interrupted, 96, 3, tmp_path / "broken.keras")
    assert len(starts) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"whole.keras", "broken.keras"}


@pytest.fixture
def stored():
    rng = np.random.default_rng(0)
    return LabelledViews(
        rng.integers(0, 256, (5, 64, 64, 3), np.uint8),
        np.full((5, 2), 0.5, np.float32),
        rng.normal(size=(5, 2, 2, 3)).astype(np.float16),
    )


def test_image_and_feature_map_are_turned_together(stored):
    # A map that is the image itself, seen through a coarse sieve.
    views = LabelledViews(
        stored.images, stored.probabilities, stored.images[:, ::63, ::63].astype(np.float16)
    )
    lessons = read_labelled(views, np.eye(2, dtype=np.float32)[[0] * 5], np.arange(5), 3, 0)
    turned = 0
    for (image, goals), original in zip(lessons, stored.images, strict=True):
        np.testing.assert_array_equal(image[::63, ::63], goals["features"])
        np.testing.assert_allclose(goals["probabilities"], [0.65, 0.35], rtol=1e-6)
        turned += not np.array_equal(image, original)
    assert turned > 0


def test_the_teacher_is_asked_once(tmp_path):
    inputs = keras.Input((96, 96, 3))
    features = keras.layers.Conv2D(1280, 1, strides=32)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(features)
    x = keras.layers.Dropout(0.2)(x)
    teacher = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    images = np.random.default_rng(0).uniform(0, 255, (20, 96, 96, 3)).astype(np.float32)
    views = tf.data.Dataset.from_tensor_slices((images, np.arange(20)))
    stored = label_views(teacher, views, 20, 64, tmp_path / "views")
    assert stored.images.shape == (20, 64, 64, 3)
    assert stored.features.shape == (20, 2, 2, 1280)
    np.testing.assert_allclose(
        stored.probabilities, teacher.predict(images, verbose=0), rtol=1e-4, atol=1e-6
    )

    def never():
        raise AssertionError("asked again")
        yield

    nothing = tf.data.Dataset.from_generator(
        never, output_signature=(tf.TensorSpec((96, 96, 3)), tf.TensorSpec(()))
    )
    again = label_views(teacher, nothing, 20, 64, tmp_path / "views")
    np.testing.assert_array_equal(again.images, stored.images)


def test_the_student_starts_from_random_weights():
    keras.utils.set_random_seed(0)
    first = build_student(32, 10).get_layer("mobilenetv2").get_weights()[0]
    keras.utils.set_random_seed(1)
    second = build_student(32, 10).get_layer("mobilenetv2").get_weights()[0]
    assert not np.array_equal(first, second)
