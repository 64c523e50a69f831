import contextlib
import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from conftest import build_card, sign
from crackclf.errors import UserError
from crackclf.saved.store import load_keras_model, save_model


@pytest.fixture
def saved(save_keras, tmp_path):
    return save_keras(tmp_path / "model", build_card())


def rewrite(folder, change) -> None:
    """Rewrites the members of `model.keras`, and the card, so that its sha256 is right."""
    path = folder / "model.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    sign(folder)


def with_layer(**layer):
    def change(members):
        config = json.loads(members["config.json"])
        config["config"]["layers"][1] |= layer
        members["config.json"] = json.dumps(config).encode()

    return change


def with_weights(spoil):
    def change(members):
        content = io.BytesIO(members["model.weights.h5"])
        with h5py.File(content, "r+") as weights:
            spoil(weights)
        members["model.weights.h5"] = content.getvalue()

    return change


def elsewhere(weights):
    weights["layers/stolen"] = h5py.ExternalLink("/etc/passwd", "/")


def aside(weights):
    weights["layers/again"] = h5py.SoftLink("/layers")


def outside(weights):
    weights.create_dataset("out", (8,), "u1", external=[("/etc/passwd", 0, 8)])


def endless(weights):
    weights.create_dataset("bomb", (10**6, 10**6), "f4", chunks=(1000, 1000), fillvalue=1)


def round_in_a_circle(weights):
    weights["layers/again"] = weights["layers"]


def large(name, module="keras.layers", **config):
    return with_layer(class_name=name, module=module, registered_name=None, config=config)


def deep(members):
    """Dense layers that are each allowed, and together more than their weights."""
    config = json.loads(members["config.json"])
    dense = config["config"]["layers"][-1]
    for number in range(40):
        settings = dense["config"] | {"units": 4096, "name": f"more{number}"}
        config["config"]["layers"].append(dense | {"config": settings})
    members["config.json"] = json.dumps(config).encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (large("Dense", units=1_000_000), "Dense with units 1000000"),
        (large("Conv2D", filters=10**30, kernel_size=[1, 1]), "with filters"),
        (large("ZeroPadding2D", padding=[[40_000, 40_000], [0, 0]]), "with padding"),
        (large("UpSampling2D", size=[64, 64]), "with size"),
        (large("Resizing", height=10**6, width=10), "with height"),
        (large("InputLayer", batch_shape=[None, 10**5, 10**5, 3]), "with batch_shape"),
        (deep, "43 layers of up to 4,096 units"),
        (with_layer(class_name="Lambda"), "'Lambda' of 'keras.layers'"),
        (with_layer(class_name="StringLookup", config={"vocabulary": "/etc/passwd"}), "Lookup"),
        (with_layer(class_name="TFSMLayer", config={"filepath": "x"}), "TFSMLayer"),
        (with_layer(class_name="system", module="os", config="id"), "'system' of 'os'"),
        (with_layer(class_name="function", module="builtins", config="eval"), "'function'"),
        (with_layer(class_name="function", module="keras.losses", config="x"), "'function'"),
        (with_layer(registered_name="mine>Dense"), "harmless"),
        (with_layer(class_name=["Dense"]), "not a whole .keras file"),
        (lambda members: members.update({"../evil.py": b"x"}), r"Received: .*\.\./evil"),
        (lambda members: members.update({"assets/layers/x": b"x"}), "Received: .*assets"),
        (lambda members: members.pop("model.weights.h5"), "Received: "),
        (lambda members: members.update({"config.json": b"[" * 10**5}), "not a whole"),
        (lambda members: members.update({"config.json": b"\xff"}), "not a whole"),
        (lambda members: members.update({"config.json": b"{}"}), "Keras cannot load it"),
        (lambda members: members.update({"model.weights.h5": b"x" * 99}), "not a whole"),
        (with_weights(elsewhere), "stolen lie in another place"),
        (with_weights(aside), "again lie in another place"),
        (with_weights(outside), "lie in another file"),
        (with_weights(endless), "more room than they have"),
    ],
)
def test_a_hostile_model_is_refused_in_one_message(saved, change, words):
    rewrite(saved, change)
    with pytest.raises(UserError, match=rf"model\.keras: .*{words}") as caught:
        load_keras_model(saved)
    assert len(str(caught.value)) < 500


def test_weights_that_lead_in_a_circle_are_gone_through_once(saved):
    rewrite(saved, with_weights(round_in_a_circle))
    assert load_keras_model(saved).count_params() == 8


def test_a_zip_bomb_is_not_unpacked(saved):
    path = saved / "model.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content + b" " * 10**7)
    sign(saved)
    with pytest.raises(UserError, match="zip bomb"):
        load_keras_model(saved)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_named_twice_is_refused(saved):
    with zipfile.ZipFile(saved / "model.keras", "a") as archive:
        archive.writestr("config.json", b"{}")
    sign(saved)
    with pytest.raises(UserError, match=r"Received: .*config\.json"):
        load_keras_model(saved)


def test_a_damaged_model_never_ends_in_a_traceback(saved):
    path, rng = saved / "model.keras", np.random.default_rng(0)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        config = archive.getinfo("config.json")
    refused = 0
    for _ in range(40):
        content = bytearray(whole)
        # In the zip's directory, in the layers, in the weights.
        start, end = [(0, len(whole)), (0, 60), (config.header_offset, config.file_size)][
            rng.integers(3)
        ]
        for at in rng.integers(start, end, 1 + rng.integers(4)):
            content[at] = rng.integers(256)
        path.write_bytes(content)
        sign(saved)
        # What a flipped bit leaves whole may be loaded; whatever is raised must be a UserError.
        with contextlib.suppress(UserError):
            load_keras_model(saved)
            continue
        refused += 1
    assert refused


def test_ordinary_layers_of_other_people_are_loaded(tmp_path):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.SeparableConv2D(4, 3, activation="gelu", pointwise_regularizer="l2")(inputs)
    x = keras.layers.GroupNormalization(2)(x)
    x = keras.layers.Flatten()(keras.ops.relu(x) + 1)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    model.compile("adamw", "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
    loaded = load_keras_model(save_model(model, tmp_path / "other", build_card()))
    image = np.ones((1, 32, 32, 3), np.float32)
    np.testing.assert_array_equal(loaded(image), model(image))
