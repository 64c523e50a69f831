"""Kills commands at random moments, starts them again, and compares what comes of it.

    python benchmarks/kills_of_commands.py --kills 20 inspect audit export compare folds

Each command is run once undisturbed. Then it is killed (`kill -9`, with its children) at a random
moment of the time that took, started again and killed again, until it comes to its end; that is
repeated until it was killed so many times. What it leaves must be what the undisturbed one left,
but for measured times and for drafts, which are removed once they are an hour old.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Annotated

import typer

CLI = [sys.executable, "-m", "crackclf.cli"]
SMALL = ["--image-size", "32", "--weights", "random", "--batch-size", "16", "--epochs", "2"]
COMMANDS = {
    "inspect": ["inspect", "site", "--out", "out"],
    "audit": ["audit", "data", "--json", "out.json", "--html", "out.html"],
    "export": ["export", "shipped", "--format", "litert", "--out", "out.tflite"],
    "compare": ["compare", "data", "--backbones", "mobilenetv2", "vgg16-block4", "--out", "out"],
    "folds": ["train", "data", "--out", "out", "--folds", "3", "--fine-tune", "1"],
}
# What two undisturbed runs differ in.
MEASURED = {"seconds", "images_per_second", "peak_mb", "model.keras", "sha256"}
TIMED = (".png", ".xlsx", ".tflite")


def plain(value: object) -> object:
    """JSON without what is measured."""
    if isinstance(value, dict):
        return {key: plain(x) for key, x in value.items() if key not in MEASURED}
    return [plain(x) for x in value] if isinstance(value, list) else value


def left(place: Path) -> dict[str, object]:
    """What a command has left, by file."""
    found: dict[str, object] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if not path.is_file() or name.startswith(("data/", "site/", "logs/")):
            continue
        if (".tmp" in name and name.startswith(".")) or path.name.startswith(".crackclf-"):
            continue  # A draft, which a command removes once it is an hour old.
        if path.suffix == ".json":
            found[name] = plain(json.loads(path.read_text()))
        elif path.suffix == ".keras":
            with zipfile.ZipFile(path) as parts:  # The others hold times and object numbers.
                found[name] = parts.getinfo("model.weights.h5").CRC
        elif path.suffix in TIMED:
            found[name] = path.stat().st_size // 1000 if path.suffix != ".png" else ""
        else:
            found[name] = path.read_bytes()
    return found


def start(place: Path, command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [*CLI, *command],
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def main(
    commands: Annotated[list[str], typer.Argument(help=f"Of {', '.join(COMMANDS)}.")],
    kills: Annotated[int, typer.Option(help="Of each.")] = 20,
    photos: Annotated[int, typer.Option(help="That inspect looks at.")] = 200,
) -> None:
    """Kills, and compares."""
    rng = random.Random(0)
    print(
        "| command | seconds undisturbed | kills | ends | ends that differ |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "source"
        source.mkdir()
        subprocess.run([*CLI, "sample", "data", "--count", "60"], cwd=source, check=True)
        (source / "site").mkdir()
        drawn = sorted((source / "data").glob("*/*.jpg"))
        for number in range(photos):  # Each another picture, as equal ones are inspected once.
            content = drawn[number % len(drawn)].read_bytes()
            (source / "site" / f"{number:03}.jpg").write_bytes(content + bytes([number % 250]))
        for name in commands:
            arguments = COMMANDS[name] + (SMALL if name in ("compare", "folds") else [])
            place = Path(work) / name  # Always the same, as tables hold whole paths.
            shutil.copytree(source, place)
            begun = time.perf_counter()
            start(place, arguments).communicate()
            took = time.perf_counter() - begun
            expected = left(place)
            assert expected, f"{name} leaves nothing"
            killed = ends = differing = 0
            while killed < kills:
                shutil.rmtree(place)
                shutil.copytree(source, place)
                while True:
                    process = start(place, arguments)
                    try:
                        if killed < kills:
                            process.communicate(timeout=rng.uniform(0, took))
                        process.communicate()
                        break
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.communicate()
                        killed += 1
                found = left(place)
                ends += 1
                if found != expected:
                    differing += 1
                    odd = {x for x in found.keys() | expected.keys()}
                    odd = [x for x in odd if found.get(x) != expected.get(x)]
                    print(f"{name}: {sorted(odd)[:5]}", file=sys.stderr)
            print(f"| {name} | {took:.1f} | {killed} | {ends} | {differing} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
