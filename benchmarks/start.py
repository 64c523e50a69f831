"""How long the first answer takes: `crackclf predict` on one image against bare TensorFlow.

    python benchmarks/start.py

Each line is a fresh process, five times over; the ratio is against `import tensorflow, keras`,
which nobody who predicts with Keras can avoid.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crackclf.data.sample import write_sample
from crackclf.models.saving import SHIPPED

LOAD = (
    "import time, crackclf; from crackclf.models.saving import load_model; t = time.perf_counter();"
    "load_model(); print(time.perf_counter() - t)"
)


def main() -> None:
    """Prints file size, load time and start times."""
    with tempfile.TemporaryDirectory() as folder:
        image = next((write_sample(Path(folder) / "s", 4, 0) / "Positive").iterdir())
        commands = {
            "import tensorflow, keras": ["-c", "import tensorflow, keras"],
            "crackclf predict IMAGE": ["-m", "crackclf.cli", "predict", str(image)],
        }
        seconds = {name: [] for name in commands}
        loads = []
        for _ in range(5):
            for name, command in commands.items():
                start = time.perf_counter()
                run(command)
                seconds[name].append(time.perf_counter() - start)
            loads.append(float(run(["-c", LOAD])))
    size = (SHIPPED / "model.keras").stat().st_size
    print(f"model.keras: {size / 1e6:.2f} MB; loaded in {statistics.median(loads):.2f} s")
    bare = statistics.median(seconds["import tensorflow, keras"])
    print(f"{'':28}  median s  lowest  highest  ratio")
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(
            f"{name:28}  {middle:8.2f}  {min(times):6.2f}  {max(times):7.2f}  {middle / bare:5.2f}"
        )


def run(command: list[str]) -> str:
    """Runs Python in a fresh process and returns the last line it printed."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return (done.stdout.splitlines() or [""])[-1]


if __name__ == "__main__":
    main()
