"""What a first answer costs: `crackclf predict` against ten lines that use LiteRT directly.

    python benchmarks/start.py [--rounds 9] [--before PYTHON]

Every row is a fresh process, all of them one after the other in each round. Wall time, processor
time and peak memory are also given as ratios to the ten lines, which answer for the same patch with
the same model: pixels decoded and resized by Pillow. `--before` names the Python of an environment
with an earlier crackclf, whose rows are measured in the same run.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

PREPARE = """
import json
import numpy as np
from PIL import Image
from crackclf.saving import open_model
from drawn_concrete.make import make_patch, make_photo
rng = np.random.default_rng(0)
Image.fromarray(make_patch(rng, True)[0]).save("patch.jpg", quality=90)
Image.fromarray(make_photo(rng, True, (3000, 4000))[0]).save("photo.jpg", quality=90)
card, paths = open_model()
about = paths["model.tflite"], card.image_size, card.temperature, card.positive_index
print(json.dumps([str(value) for value in about]))
"""
TEN_LINES = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
patch, model, side, temperature, positive = sys.argv[1:]
image = Image.open(patch).resize((int(side), int(side)), Image.Resampling.BILINEAR)
model = Interpreter(model)
model.resize_tensor_input(model.get_input_details()[0]["index"], (1, *np.shape(image)))
model.allocate_tensors()
model.set_tensor(model.get_input_details()[0]["index"], np.asarray(image, np.float32)[None])
model.invoke()
logits = model.get_tensor(model.get_output_details()[0]["index"]).mean(axis=(1, 2))[0]
odds = np.exp((logits - logits.max()) / float(temperature))
print(f"{odds[int(positive)] / odds.sum():.4f}")
"""
FIRST = "ten lines with LiteRT"
Cost = tuple[float, float, float]  # Wall time and processor time in seconds, peak memory in MB.


def main(
    rounds: Annotated[int, typer.Option(help="Processes of each row.")] = 9,
    before: Annotated[
        Path | None, typer.Option(help="Python of an environment with an earlier crackclf.")
    ] = None,
) -> None:
    """Prints medians, and their ratios to the ten lines."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: Linux counts what its parent held in a process's own peak.
        about = json.loads(run([sys.executable, "-c", PREPARE], folder)[1])
        cli = [sys.executable, "-m", "crackclf.cli"]
        commands: dict[str, list] = {
            FIRST: [sys.executable, "-c", TEN_LINES, "patch.jpg", *about],
            "crackclf predict PATCH": [*cli, "predict", "patch.jpg"],
            "crackclf --help": [*cli, "--help"],
            "crackclf inspect PHOTO (12 MP)": [*cli, "inspect", "photo.jpg"],
            "import tensorflow, keras": [sys.executable, "-c", "import tensorflow, keras"],
        }
        if before is not None:
            for title in [title for title in commands if title.startswith("crackclf")]:
                commands[f"before: {title}"] = [before, *commands[title][1:]]
        answers, costs = {}, {title: [] for title in commands}
        for number in range(rounds + 1):
            for title, command in commands.items():
                if "inspect" in title:  # An earlier result would be used again.
                    command = [*command, "--out", f"{number} {title[:6]}"]
                cost, answers[title] = run(command, folder)
                if number:  # The first round fills the cache of the file system.
                    costs[title].append(cost)
    heads = ["", "wall s", "lowest", "highest", "CPU s", "peak MB", "wall", "CPU", "memory"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    first = middle(costs[FIRST])
    for title, values in costs.items():
        wall, cpu, peak = middle(values)
        walls = [value for value, *_ in values]
        ratios = [f"{x / y:.2f}" for x, y in zip((wall, cpu, peak), first, strict=True)]
        seconds = [f"{x:.2f}" for x in (wall, min(walls), max(walls), cpu)]
        print(f"| {' | '.join([title, *seconds, f'{peak:.0f}', *ratios])} |")
    ours = answers["crackclf predict PATCH"].split()[0]
    print(f"Probability: ten lines {answers[FIRST].strip()}, crackclf {ours}")


def middle(costs: list[Cost]) -> Cost:
    """The median of each figure."""
    wall, cpu, peak = (statistics.median(values) for values in zip(*costs, strict=True))
    return wall, cpu, peak


def run(command: list, folder: Path) -> tuple[Cost, str]:
    """What a fresh process costs, and what it prints."""
    arguments = list(map(str, command))
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(arguments, cwd=folder, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if status:
            raise SystemExit(f"{' '.join(arguments)[:200]} ended with status {status}")
        output.seek(0)
        # Linux counts peak memory in KiB.
        return (wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000), output.read()


if __name__ == "__main__":
    typer.run(main)
