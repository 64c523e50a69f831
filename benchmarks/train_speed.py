"""Training: the plain Keras recipe against crackclf, with and without the cache.

    python benchmarks/train_speed.py DIR

DIR holds one folder of images per class. Of each size as many images as it says are drawn from
it, half of each class; size 0 takes all. Every row is a process of its own on the same images and
the same split, with the same number of epochs and no early stopping. Seconds run from after the
imports to the test figures: reading and checking the images, the base pass, the training and the
calibration are in them. Memory is the peak of the process. The figures of crackclf's rows are
those after calibration on the validation images, which are crackclf's default.
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

import typer

from crackclf.errors import learning

# Each row has a data folder of its own, so that none profits from another's checks; but the last
# one finds what the one before it cached, and has another head.
ROWS = {
    "plain Keras": "plain",
    "crackclf without cache": "uncached",
    "crackclf": "cached",
    "crackclf, another head": "cached",
}
HEADS = {"crackclf, another head": {"dropout": 0.3, "learning_rate": 5e-4}}
FIGURES = {
    "accuracy": "accuracy",
    "loss": "log loss",
    "auroc": "AUROC",
    "calibration_error": "calibration error",
    "uncalibrated_loss": "log loss before calibration",
    "uncalibrated_calibration_error": "calibration error before",
}


def main(
    directory: Annotated[Path, typer.Argument(help="Folder with one folder of images per class.")],
    sizes: Annotated[str, typer.Option(help="Numbers of images.")] = "2500,10000",
    epochs: Annotated[int, typer.Option(help="Of every row.")] = 10,
    seeds: Annotated[str, typer.Option(help="Of split and training; one table each.")] = "0",
    rows: Annotated[str, typer.Option(help="Only these rows, by number.")] = "1,2,3,4",
    group_by: Annotated[str, typer.Option(help="Images to be kept together, as in train.")] = "",
) -> None:
    """Times training."""
    names = [list(ROWS)[int(row) - 1] for row in rows.split(",")]
    heads = ["images", "seed", "", "seconds", "times faster", *FIGURES.values(), "peak MB"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for seed in seeds.split(","):
        for size in sizes.split(","):
            with tempfile.TemporaryDirectory() as folder:
                for name in set(ROWS.values()):
                    link(directory, Path(folder) / name, int(size))
                first = 0.0
                for name in names:
                    command = [sys.executable, __file__, "run", name, folder, str(epochs), seed]
                    command.append(group_by)
                    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                    result = json.loads(done.stdout.splitlines()[-1])
                    first = first or result["seconds"]
                    cells = [
                        *(size, seed, name, f"{result['seconds']:.1f}"),
                        f"{first / result['seconds']:.1f}",
                        *(f"{result[figure]:.4f}" for figure in FIGURES),
                        f"{result['peak_mb']:.0f}",
                    ]
                    print(f"| {' | '.join(cells)} |", flush=True)


def link(directory: Path, target: Path, n: int) -> None:
    """Every k-th image of each class, n in all, as links."""
    classes = sorted(path for path in directory.iterdir() if path.is_dir() and path.name[0] != ".")
    for folder in classes:
        files = sorted(folder.iterdir())
        wanted = n // len(classes) or len(files)
        (target / folder.name).mkdir(parents=True)
        for i in range(wanted):
            file = files[i * len(files) // wanted]
            (target / folder.name / file.name).symlink_to(file.resolve())


def run(name: str, folder: Path, epochs: int, seed: int, group_by: str | None) -> dict:
    """One row, in this process."""
    import crackclf

    with learning():
        import keras

    keras.utils.set_random_seed(seed)
    logs = folder / f"logs {name}"
    images = folder / ROWS[name]
    callbacks = [keras.callbacks.TensorBoard(logs, update_freq="batch", write_graph=False)]
    if name == "plain Keras":
        # Not timed: the recipe has no split of its own. In crackclf's rows the split is timed.
        data = crackclf.load_datasets(images, seed=seed, group_by=group_by)
        start = time.perf_counter()
        probabilities = plain(data.split, epochs, callbacks)
        found = crackclf.Calibration()
    else:
        cached = ROWS[name] == "cached"
        start = time.perf_counter()
        data = crackclf.load_datasets(images, seed=seed, group_by=group_by)
        model = crackclf.build_model(**HEADS.get(name, {}), seed=seed)
        crackclf.train(model, data, callbacks, epochs, cached)
        answers = {
            subset: crackclf.predict_features(model, data, subset)
            if cached
            else model.predict(getattr(data, subset))
            for subset in ("validation", "test")
        }
        probabilities = answers["test"]
        found = crackclf.calibrate(
            data.labels["validation"], answers["validation"], data.class_names
        )
    report = crackclf.compute_report(
        data.labels["test"],
        probabilities,
        data.class_names,
        threshold=found.threshold,
        temperature=found.temperature,
    )
    return {
        "seconds": time.perf_counter() - start,
        **{figure: getattr(report, figure) for figure in FIGURES},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def plain(tree: Path, epochs: int, callbacks: list):
    """What Keras' guide to transfer learning does, on folders that are split already."""
    import keras

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
    return model.predict(test, verbose=0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        name, folder, epochs, seed, group_by = sys.argv[2:]
        result = run(name, Path(folder), int(epochs), int(seed), group_by or None)
        print("\n" + json.dumps(result))
    else:
        typer.run(main)
