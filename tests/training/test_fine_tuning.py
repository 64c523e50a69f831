import numpy as np
import pytest

from crackclf.data.loading import load_datasets
from crackclf.images.decode import read_image
from crackclf.images.resize import resize
from crackclf.models.classifier import build_model
from crackclf.training.callbacks import build_callbacks
from crackclf.training.fit import fine_tune, predict_features


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "not cached"])
def test_the_last_block_is_trained_with_the_head(sample, tiny, tmp_path, cached):
    data = load_datasets(sample, image_size=32, batch_size=8)
    model = build_model(32, tiny, weights="random")
    base = model.get_layer(tiny)
    before = [weight.numpy().copy() for weight in base.weights]
    logs = tmp_path / "logs"
    history = fine_tune(
        model,
        data,
        build_callbacks(logs, hparams={"blocks": 1}),
        epochs=2,
        learning_rate=1e-3,
        cache_features=cached,
        views=1,
    )
    assert len(history.history["val_loss"]) == 2
    moved = {
        weight.path.split("/")[0]
        for weight, old in zip(base.weights, before, strict=True)
        if (weight.numpy() != old).any()
    }
    assert moved == {"block2_conv"}
    pixels = np.stack([resize(read_image(path), 32, 32) for path in data.files["test"]])
    whole = model.predict(pixels, verbose=0)
    # Features are kept in 16 bits.
    np.testing.assert_allclose(predict_features(model, data), whole, atol=5e-3)
    assert {path.name for path in logs.iterdir()} >= {"train", "validation", "best.keras"}
