import keras
import numpy as np
import pytest
import tensorflow as tf

import teacher
from crackclf.models.bases import build_narrow_base
from crackclf.prediction.classifier import from_keras
from crackclf.saved.card import Card
from crackclf.saved.store import load_keras_model
from teacher import build_student, fit_resumable, label_views


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


def test_the_teacher_is_fine_tuned_from_its_third_block_up(weights_folder, monkeypatch):
    monkeypatch.setattr(teacher, "TEACHER_SIZE", 64)
    model = teacher.build_teacher(weights_folder / "mobilenetv2.weights.h5", steps=100)
    assert (model.input_shape, model.output_shape) == ((None, 64, 64, 3), (None, 2))
    layers = model.get_layer("mobilenetv2").layers
    at = [layer.name for layer in layers].index("block_3_expand")
    for layer in layers:
        trained = layers.index(layer) >= at and not isinstance(
            layer, keras.layers.BatchNormalization
        )
        assert bool(layer.trainable_weights) == bool(trained and layer.weights), layer.name


def test_an_interrupted_training_is_resumed(tmp_path):
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


def test_the_answers_of_the_teacher_are_computed_once(tmp_path):
    inputs = keras.Input((64, 64, 3))
    features = keras.layers.Conv2D(1280, 1, strides=32)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(features)
    x = keras.layers.Dropout(0.2)(x)
    outputs = keras.layers.Dense(2, activation="softmax")(x)
    model = keras.Model(inputs, outputs)
    images = np.random.default_rng(0).uniform(0, 255, (20, 64, 64, 3)).astype(np.float32)
    views = tf.data.Dataset.from_tensor_slices((images, np.arange(20)))
    label_views(model, views, 20, tmp_path / "views")
    stored = {path.stem: np.load(path) for path in (tmp_path / "views").iterdir()}
    assert set(stored) == {"images", "features", "logits"}
    np.testing.assert_array_equal(stored["images"], np.round(images))
    assert stored["features"].shape == (20, 2, 2, 1280)
    np.testing.assert_allclose(
        keras.ops.softmax(stored["logits"].mean(axis=(1, 2))),
        model.predict(np.round(images), verbose=0),
        rtol=1e-3,
        atol=1e-6,
    )

    def never():
        raise AssertionError("asked again")
        yield

    nothing = tf.data.Dataset.from_generator(
        never, output_signature=(tf.TensorSpec((64, 64, 3)), tf.TensorSpec(()))
    )
    label_views(model, nothing, 20, tmp_path / "views")


def test_what_ships_is_the_upright_student_and_answers_by_the_mean_over_mirrored_views():
    base = build_narrow_base(64)
    base.set_weights(load_keras_model().get_layer("mobilenetv2").get_weights())
    rng = np.random.default_rng(0)
    weights = [*base.get_weights(), rng.normal(0, 0.02, (1280, 2)), np.array([0.1, -0.1])]
    model = build_student(weights, 64)
    assert [x.name for x in model.layers[-3:]] == ["mobilenetv2", "pooling", "probabilities"]
    image = rng.uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    mirrored = [image, image[:, ::-1], image[:, :, ::-1], image.transpose(0, 2, 1, 3)]
    answers = [
        keras.ops.softmax(base(x / 127.5 - 1).numpy().mean(axis=(1, 2)) @ weights[-2] + weights[-1])
        for x in mirrored
    ]
    assert np.ptp([float(answer[0, 0]) for answer in answers]) > 1e-3
    np.testing.assert_allclose(model(image), answers[0], rtol=1e-4)
    classifier = from_keras(model, Card(("crack", "no_crack"), "crack", 64, mirrored=True))
    np.testing.assert_allclose(classifier.probabilities(image), np.mean(answers, axis=0), rtol=1e-3)
