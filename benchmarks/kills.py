"""Kills `crackclf train` at random moments, starts it again, and compares what comes of it.

    python benchmarks/kills.py --kills 25 -- --views 1

trains on 160 drawn patches with these arguments of `crackclf train`, once undisturbed, then again
and again under `kill -9`, at the end of a random epoch or while the model is tested and saved.
Whatever stands after a kill must load, and what a training ends with must be, bit for bit, what the
undisturbed one ended with: model, best checkpoint, history, every point of every curve, figures.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CLI = [sys.executable, "-m", "crackclf.cli"]
EPOCHS, QUIET = 8, subprocess.DEVNULL
TRAIN = [
    *(*CLI, "train", "data", "--out", "saved_models/a", "--epochs", str(EPOCHS)),
    *("--image-size", "32", "--weights", "random", "--batch-size", "16"),
]


def epochs_done(folder: Path) -> int:
    """Full epochs behind an interrupted training; -1 before the first and after the last."""
    try:
        if (folder / "backup.pt").exists():
            import torch

            state = torch.load(folder / "backup.pt", weights_only=True)
            return len(state["progress"]["history"])
        return json.loads(str(np.load(folder / "backup.npz")["arr_0"]))["epochs"]
    except (OSError, EOFError, ValueError):
        return -1


def weights(path: Path) -> list[np.ndarray]:
    if path.suffix == ".pt":
        import torch

        return [value.numpy() for value in torch.load(path, weights_only=True).values()]
    return [np.asarray(x) for x in keras.saving.load_model(path).get_weights()]


def outcome(place: Path) -> tuple[dict[str, object], list[np.ndarray]]:
    logs, saved = place / "logs" / "a", place / "saved_models" / "a"
    curves = {}
    for part in ("train", "validation"):
        events = EventAccumulator(str(logs / part), {"tensors": 0, "scalars": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            curves[part, tag] = [
                (event.step, float(tf.make_ndarray(event.tensor_proto)))
                for event in events.Tensors(tag)
            ]
        for tag in events.Tags()["scalars"]:
            curves[part, tag] = [(e.step, e.value) for e in events.Scalars(tag)]
    figures = json.loads((saved / "card.json").read_text())["metrics"]["test"]
    del figures["misclassified"]  # By path.
    history = (logs / "history.csv").read_text()
    arrays = [x for file in (*saved.glob("model.*"), *logs.glob("best.*")) for x in weights(file)]
    return {"history": history, "curves": curves, "figures": figures}, arrays


def kill_once(place: Path, arguments: list[str], rng: random.Random) -> bool:
    """Starts the training and kills it; False when it had come to its end before."""
    logs = place / "logs" / "a"
    # Every other kill after the last epoch, while it tests and saves.
    target = rng.choice([EPOCHS, rng.randint(max(0, epochs_done(logs)), EPOCHS)])
    process = subprocess.Popen([*TRAIN, *arguments], cwd=place, stdout=QUIET, stderr=QUIET)
    while process.poll() is None and epochs_done(logs) < target:
        if (logs / "history.csv").exists() and not list(logs.glob("backup.*")):
            break
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 3 if target == EPOCHS else 0.8))
    alive = process.poll() is None
    process.kill()
    process.wait()
    for best in logs.glob("best.*"):
        weights(best)
    return alive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("arguments", nargs="*", help="more arguments of crackclf train, after --")
    options = parser.parse_args()
    rng, kills, trainings, differing = random.Random(0), 0, 0, 0
    with tempfile.TemporaryDirectory() as work:
        data = Path(work) / "data"
        subprocess.run([*CLI, "sample", str(data), "--count", "160"], check=True)

        def prepare() -> Path:
            place = Path(tempfile.mkdtemp(dir=work))
            shutil.copytree(data, place / "data")
            return place

        def finish(place: Path) -> tuple[dict[str, object], list[np.ndarray]]:
            if not (place / "saved_models" / "a").exists():
                command = [*TRAIN, *options.arguments]
                subprocess.run(command, cwd=place, check=True, capture_output=True)
            return outcome(place)

        expected, arrays = finish(prepare())
        while kills < options.kills:
            place, alive = prepare(), True
            while alive and kills < options.kills and not (place / "saved_models" / "a").exists():
                alive = kill_once(place, options.arguments, rng)
                kills += alive
            found, others = finish(place)
            same = len(arrays) == len(others) and all(map(np.array_equal, arrays, others))
            differences = [name for name in expected if found[name] != expected[name]]
            differing += bool(differences) or not same
            trainings += 1
            print(f"{kills} kills, {trainings} trainings, {differing} of them not as undisturbed")
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
