"""How long training takes: the plain Keras recipe against crackclf, with and without the cache.

    python benchmarks/train_speed.py DIR

DIR holds one folder of images per class. Of each size as many images as it says are drawn from
it, half of each class. Every row is a process of its own on the same images and the same split,
with the same number of epochs and no early stopping. Seconds run from after the imports to the
test figures: reading and checking the images, the base pass and the training are in them.
Memory is the peak of the process.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import typer

# Each row has a data folder of its own, so that none profits from another's checks; but the last
# one finds what the one before it cached, and has another head.
ROWS = {
    "plain Keras": "plain",
    "crackclf": "uncached",
    "crackclf, cached": "cached",
    "crackclf, cached, again": "cached",
}
HEADS = {"crackclf, cached, again": {"dropout": 0.3, "learning_rate": 5e-4}}


def main(
    directory: Annotated[Path, typer.Argument(help="Folder with one folder of images per class.")],
    sizes: Annotated[str, typer.Option(help="Numbers of images.")] = "2500,10000",
    epochs: Annotated[int, typer.Option(help="Of every row.")] = 10,
    seeds: Annotated[str, typer.Option(help="Of split and training; one table each.")] = "0",
    rows: Annotated[str, typer.Option(help="Only these rows, by number.")] = "1,2,3,4",
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write there.")] = None,
) -> None:
    """Times training."""
    names = [list(ROWS)[int(row) - 1] for row in rows.split(",")]
    results = []
    print("| images | seed | | seconds | times faster | accuracy | log loss | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in seeds.split(","):
        for size in sizes.split(","):
            with tempfile.TemporaryDirectory() as folder:
                for name in set(ROWS.values()):
                    link(directory, Path(folder) / name, int(size))
                first = 0.0
                for name in names:
                    command = [sys.executable, __file__, "run", name, folder, str(epochs), seed]
                    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                    result = json.loads(done.stdout.splitlines()[-1])
                    first = first or result["seconds"]
                    print(
                        f"| {size} | {seed} | {name} | {result['seconds']:.1f} | "
                        f"{first / result['seconds']:.1f} | {result['accuracy']:.4f} | "
                        f"{result['log_loss']:.4f} | {result['peak_mb']:.0f} |",
                        flush=True,
                    )
                    results.append({"images": int(size), "seed": int(seed), "row": name} | result)
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n")


def link(directory: Path, target: Path, n: int) -> None:
    """Every k-th image of each class, n in all, as links."""
    classes = sorted(path for path in directory.iterdir() if path.is_dir() and path.name[0] != ".")
    for folder in classes:
        files = sorted(folder.iterdir())
        wanted = n // len(classes)
        (target / folder.name).mkdir(parents=True)
        for i in range(wanted):
            file = files[i * len(files) // wanted]
            (target / folder.name / file.name).symlink_to(file.resolve())


def run(name: str, folder: Path, epochs: int, seed: int) -> dict:
    """One row, in this process."""
    import keras
    import numpy as np
    from sklearn.metrics import log_loss

    import crackclf
    from crackclf import predict_features

    keras.utils.set_random_seed(seed)
    logs = folder / f"logs {name}"
    images = folder / ROWS[name]
    callbacks = [keras.callbacks.TensorBoard(logs, update_freq="batch", write_graph=False)]
    if name == "plain Keras":
        # The split is part of crackclf's own time, and a gift to the plain recipe.
        tree = crackclf.load_datasets(images, seed=seed).split
        start = time.perf_counter()
        labels, probabilities = plain(tree, epochs, callbacks)
    else:
        cached = ROWS[name] == "cached"
        start = time.perf_counter()
        data = crackclf.load_datasets(images, seed=seed)
        model = crackclf.build_model(**HEADS.get(name, {}))
        crackclf.train(model, data, callbacks, epochs, cached, seed=seed)
        probabilities = predict_features(model, data) if cached else model.predict(data.test)
        labels = data.labels["test"]
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "accuracy": float((np.asarray(probabilities).argmax(axis=1) == labels).mean()),
        "log_loss": float(log_loss(labels, probabilities)),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def plain(tree: Path, epochs: int, callbacks: list) -> tuple:
    """What Keras' guide to transfer learning does, on folders that are split already."""
    import keras
    import numpy as np

    def read(subset: str, shuffle: bool):
        return keras.utils.image_dataset_from_directory(
            tree / subset,
            label_mode="categorical",
            batch_size=32,
            image_size=(160, 160),
            shuffle=shuffle,
            seed=0,
            verbose=False,
        )

    training, validation, test = read("train", True), read("validation", False), read("test", False)
    weights = Path(os.environ.get("CRACKCLF_WEIGHTS_DIR", "")) / "mobilenetv2.weights.h5"
    base = keras.applications.MobileNetV2(
        input_shape=(160, 160, 3),
        include_top=False,
        weights=None if weights.is_file() else "imagenet",
    )
    if weights.is_file():
        base.load_weights(weights)
    base.trainable = False
    inputs = keras.Input((160, 160, 3))
    x = keras.layers.RandomFlip("horizontal_and_vertical")(inputs)
    x = keras.layers.RandomRotation(0.5, fill_mode="reflect")(x)
    x = keras.layers.RandomContrast(0.2, value_range=(0, 255))(x)
    x = keras.layers.RandomBrightness(0.1, value_range=(0, 255))(x)
    x = keras.applications.mobilenet_v2.preprocess_input(x)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    outputs = keras.layers.Dense(2, activation="softmax")(x)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(training, validation_data=validation, epochs=epochs, callbacks=callbacks, verbose=2)
    labels = np.concatenate([batch.numpy().argmax(axis=1) for _, batch in test])
    return labels, model.predict(test, verbose=0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        name, folder, epochs, seed = sys.argv[2:]
        print("\n" + json.dumps(run(name, Path(folder), int(epochs), int(seed))))
    else:
        typer.run(main)
