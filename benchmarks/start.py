"""How long a first answer takes: the command line against ten lines that use LiteRT directly.

    python benchmarks/start.py [--before PYTHON]

Every line is a fresh process, nine times over, the commands taking turns. The ratio is against the
ten lines, which answer for the same patch with the same model: pixels decoded by Pillow, resized as
in training. `--before` names the Python of an environment with an earlier crackclf, to be measured
in the same run.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from crackclf.saved.store import SHIPPED

ROUNDS = 9
DRAW = """
import numpy as np
from PIL import Image
from crackclf.sample.make import make_photo
from crackclf.sample.write import write_sample
write_sample("s", 4, 0)
photo, _ = make_photo(np.random.default_rng(0), True, (3000, 4000))
Image.fromarray(photo).save("photo.jpg", quality=90)
"""
TEN_LINES = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
image = Image.open(sys.argv[2]).resize((192, 192), Image.Resampling.BILINEAR)
x = np.asarray(image, np.float32)[None]
model = Interpreter(sys.argv[1])
model.resize_tensor_input(model.get_input_details()[0]["index"], x.shape)
model.allocate_tensors()
model.set_tensor(model.get_input_details()[0]["index"], x)
model.invoke()
logits = model.get_tensor(model.get_output_details()[0]["index"]).mean(axis=(1, 2))[0]
odds = np.exp((logits - logits.max()) / 0.8142237492062294)
print(f"{odds[0] / odds.sum():.4f}")
"""


def main(
    before: Annotated[
        Path | None, typer.Option(help="Python of an environment with an earlier crackclf.")
    ] = None,
) -> None:
    """Prints median, lowest and highest wall time, peak memory, and the ratio to the ten lines."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: a process counts what its parent held as its own peak.
        subprocess.run([sys.executable, "-c", DRAW], cwd=folder, check=True)
        patch = next((folder / "s" / "Positive").iterdir())
        cli, graph = [sys.executable, "-m", "crackclf.cli"], SHIPPED / "model.tflite"
        commands = {
            "ten lines with LiteRT": [sys.executable, "-c", TEN_LINES, graph, patch],
            "crackclf predict PATCH": [*cli, "predict", patch],
            "crackclf inspect PHOTO (12 MP)": [*cli, "inspect", folder / "photo.jpg"],
            "crackclf --help": [*cli, "--help"],
            "import tensorflow, keras": [sys.executable, "-c", "import tensorflow, keras"],
        }
        if before is not None:
            for title in [title for title in commands if title.startswith("crackclf")]:
                commands[f"before: {title}"] = [before, *commands[title][1:]]
        measured: dict[str, list[tuple[float, float]]] = {title: [] for title in commands}
        for round_number in range(ROUNDS):
            for number, (title, command) in enumerate(commands.items()):
                if "inspect" in title:
                    command = [*command, "--out", folder / f"out-{number}-{round_number}"]
                measured[title].append(run(command, folder))
    first = statistics.median(seconds for seconds, _ in measured["ten lines with LiteRT"])
    print("| | median s | lowest | highest | ratio | peak MB |\n|---|---|---|---|---|---|")
    for title, values in measured.items():
        seconds = [value for value, _ in values]
        middle, peak = statistics.median(seconds), max(megabytes for _, megabytes in values)
        print(
            f"| {title} | {middle:.2f} | {min(seconds):.2f} | {max(seconds):.2f} | "
            f"{middle / first:.2f} | {peak:.0f} |"
        )


def run(command: list, folder: Path) -> tuple[float, float]:
    """Wall time in seconds and peak memory in MB of a fresh process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(map(str, command))[:200]} ended with status {status}")
    return seconds, usage.ru_maxrss / 1000  # Linux counts in KiB.


if __name__ == "__main__":
    typer.run(main)
