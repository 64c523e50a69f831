"""Kills commands at random moments, and checks that the last good results can still be read.

    python benchmarks/kills.py [--kills 10] [--commands train audit inspect export]
    python benchmarks/kills.py --full-disk

Each command leaves a good result on drawn images. Then it is started again, for a second result
or, with `inspect`, to add photos to the first, and its process group is killed (`kill -9`) at a
moment drawn from the time that it takes undisturbed. Nothing that the kill left is removed before
the next start; when a run ends before its kill, the folder goes back to the first result and the
kill is tried again. After every kill the first result must be whole, and the second one whole or
absent. At last the command is run to its end, and both must be whole.

With `--full-disk` the folder is on a disk of its own (tmpfs; mounting it needs root) with random
room left, less than the command needs. It must end with exit status 2 and one message.
"""

import argparse
import csv
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

import crackclf
from crackclf.errors import learning

IMAGES, PHOTOS, DISK = 80, 24, "400m"
CLI = [sys.executable, "-m", "crackclf.cli"]
TRAIN = "train data --image-size 96 --epochs 2 --weights random --out saved_models/"
EXPORT = "export shipped --format litert --out "


@dataclass(frozen=True)
class Command:
    """What is run, and how its results are read."""

    first: str  # Leaves the good result.
    again: str  # Is disturbed.
    read: Callable[[Path], set[str]]  # Names of all results; an error when one cannot be read.
    status: int = 0  # Exit status of a run that comes to its end.


def read_trained(place: Path) -> set[str]:
    """Saved models, which must load in both halves and predict."""
    with learning():
        import keras

    patch = next((place / "data").glob("*/*.jpg"))
    for best in (place / "logs").rglob("best.keras"):
        keras.saving.load_model(best)
    found = visible(place / "saved_models")
    for folder in found:
        crackclf.load_keras_model(folder)
        prediction = crackclf.predict(patch, folder)[0]
        expect(0 <= prediction.probability <= 1, f"{folder.name}: {prediction}")
    return {path.name for path in found}


def read_audits(place: Path) -> set[str]:
    """The JSON of the findings, and the folders of copied files, by what they hold."""
    found = json.loads((place / "found.json").read_text())["findings"]
    folders = visible(place / "copies")
    whole = {"found.json"} if found else set()
    for folder in folders:
        rows = list(csv.DictReader((folder / "findings.csv").open(newline="")))
        for row in rows:
            expect((folder / row["file"]).is_file(), f"{folder.name}: no {row['file']}")
        images = len([open_whole(path) for path in folder.glob("*/*.jpg")])
        whole.add(f"{folder.name}: {len(rows)} rows, {images} images")
    return whole


def read_report(place: Path) -> set[str]:
    """The photos of a report, which must be the same in its page, its table and its JSON."""
    out = place / "report"
    page = (out / "report.html").read_text()
    expect(page.rstrip().endswith("</html>"), "report.html has no end")
    texts = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    shown = [record["file"] for record in map(json.loads, texts) if "file" in record]
    photos = json.loads((out / "inspection.json").read_text())["photos"]
    rows = list(csv.DictReader((out / "photos.csv").open(newline="")))
    for name, listed in ("photos.csv", rows), ("inspection.json", photos):
        same = [row["file"] for row in listed] == shown
        expect(same, f"report.html has {len(shown)} photos, {name} {len(listed)} or others")
    for photo in photos:
        open_whole(out / photo["overlay"])
    return set(shown)


def read_exports(place: Path) -> set[str]:
    """Exported files, which must run, and what is written beside them."""
    found, patch = visible(place / "exports"), np.zeros((1, 96, 96, 3), np.uint8)
    for path in found:
        if path.suffix == ".json":
            expect(len(json.loads(path.read_text())["class_names"]) == 2, f"{path.name}: classes")
        else:
            probabilities = Interpreter(str(path)).get_signature_runner()(image=patch)
            total = float(probabilities["probabilities"].sum())
            expect(math.isclose(total, 1, abs_tol=1e-4), f"{path.name}: its sum is {total}")
            expect(path.with_suffix(".json") in found, f"{path.name} has no JSON beside it")
    return {path.name for path in found}


COMMANDS = {
    "train": Command(TRAIN + "first", TRAIN + "second", read_trained),
    "train --no-cache-features": Command(
        *(f"{TRAIN}{name} --no-cache-features" for name in ("first", "second")), read_trained
    ),
    "audit": Command(
        *(f"audit data --json found.json --quarantine copies/{x}" for x in ("first", "second")),
        *(read_audits, 1),
    ),
    "inspect": Command("inspect site/a --out report", "inspect site --out report", read_report),
    "export": Command(
        f"{EXPORT}exports/first.tflite", f"{EXPORT}exports/second.tflite", read_exports
    ),
}


def visible(folder: Path) -> list[Path]:
    """What a folder holds, without drafts; nothing when there is no folder."""
    return sorted(folder.glob("[!.]*"))


def expect(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def open_whole(path: Path) -> Image.Image:
    """An image, all of it decoded."""
    image = Image.open(path)
    image.load()
    return image


class Workplace:
    """A folder with drawn images, in which one command is run."""

    def __init__(self, command: Command, folder: Path, place: Path, drawn: Path):
        self.command, self.place, self.kept = command, place, folder / "kept"
        self.errors = folder / "stderr.txt"
        shutil.copytree(drawn, place, dirs_exist_ok=True)
        status = self.start(command.first).wait()
        self.expect_end(command.first, status)
        self.good = self.whole = command.read(place)
        shutil.rmtree(place / "data" / ".crackclf", ignore_errors=True)  # To be computed again.
        shutil.copytree(place, self.kept)
        before, start = self.state(), time.perf_counter()
        status, self.seconds = self.start(command.again).wait(), time.perf_counter() - start
        self.expect_end(command.again, status)
        self.bytes = sum(size for size, _ in self.state().values())
        self.bytes -= sum(size for size, _ in before.values())
        self.whole = command.read(place)

    def state(self) -> dict[Path, tuple[int, int]]:
        """The size of every file and folder, and when it was changed."""
        stats = [(path, path.lstat()) for path in self.place.rglob("*")]
        return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats}

    def reset(self) -> None:
        """Goes back to the first result."""
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.kept, self.place, dirs_exist_ok=True, symlinks=True)

    def start(self, line: str) -> subprocess.Popen:
        """Starts a command as a process group of its own."""
        with self.errors.open("w") as errors:
            streams = {"stdout": subprocess.DEVNULL, "stderr": errors}
            arguments = [*CLI, *line.split()]
            return subprocess.Popen(arguments, cwd=self.place, start_new_session=True, **streams)

    def message(self) -> str:
        """What the last run wrote to stderr."""
        return self.errors.read_text(errors="replace").strip()

    def expect_end(self, line: str, status: int) -> None:
        """Raises an error when a run did not come to its end."""
        ending = f"`{line}` ended with status {status}: {self.message()[-600:]}"
        expect(status == self.command.status, ending)

    def check(self, status: int | None = None) -> bool:
        """Whether the first result can be read, and both after a run that ended with `status`."""
        try:
            if status is not None:
                self.expect_end(self.command.again, status)
            found = self.command.read(self.place)
            least = self.good if status is None else self.whole
            expect(least <= found <= self.whole, f"expected {sorted(least)}, found {sorted(found)}")
        except Exception as error:  # Whatever a half-written file may raise.
            print(f"  {type(error).__name__}: {error}", file=sys.stderr)
            return False
        return True

    def renew(self) -> bool:
        """Checks the first result; goes back to it when it is damaged, or both are there."""
        is_good = self.check()
        if not is_good or self.command.read(self.place) == self.whole:
            self.reset()
        return is_good

    def end(self) -> bool:
        """Runs the disturbed command to its end and checks both results."""
        return self.renew() & self.check(self.start(self.command.again).wait())


def kill_often(work: Workplace, kills: int, rng: random.Random) -> list[str]:
    """Kills a command so many times; returns the cells of its row."""
    moments = [(number + rng.random()) / kills * work.seconds for number in range(kills)]
    rng.shuffle(moments)
    working, too_late, is_good = 0, 0, True
    work.reset()
    for moment in moments:
        while True:
            before, process = work.state(), work.start(work.command.again)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                break
            too_late += 1
            is_good &= work.check(process.returncode)
            work.reset()
            moment = rng.uniform(0, moment)  # The machine is faster now, or less was left to do.
        working += work.state() != before
        is_good &= work.renew()
    is_good &= work.end()
    return [f"{kills}", f"{working}", f"{too_late}", "yes" if is_good else "**no**"]


def fill_often(work: Workplace, rounds: int, rng: random.Random) -> list[str]:
    """Runs a command so many times on a disk that is nearly full; returns the cells of its row."""
    full, is_good, filler = 0, True, work.place / "filler"
    for number in range(rounds):
        work.reset()
        room = int((number + rng.random()) / rounds * work.bytes)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(work.place).free - room)
        status, message = work.start(work.command.again).wait(), work.message()
        line = message.rpartition("\n")[2]
        is_refused = status == 2 and line.startswith("Error: ") and "Traceback" not in message
        full += is_refused
        # A command that needs no more than the room that was left comes to its end.
        is_good &= work.check(None if is_refused else status)
        filler.unlink()
    is_good &= work.end()
    return [f"{rounds}", f"{full}", f"{work.bytes / 1e6:.1f}", "yes" if is_good else "**no**"]


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A small disk, unmounted at the end."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"skipped: a small disk cannot be mounted here ({done.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def draw(folder: Path) -> None:
    """Patches with a copy among them for the commands that learn, and small photos in two parts."""
    crackclf.write_sample(folder / "data", IMAGES)
    patches = sorted((folder / "data").glob("*/*.jpg"))
    shutil.copy(patches[0], patches[0].with_name("copy.jpg"))
    for number, path in enumerate(patches[:: len(patches) // PHOTOS]):
        part = folder / "site" / ("a" if number % 2 else "b")
        part.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((640, 480)).save(part / path.name)
    (folder / "exports").mkdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    groups = list(dict.fromkeys(name.split()[0] for name in COMMANDS))
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--commands", nargs="+", choices=groups, default=groups)
    parser.add_argument("--full-disk", action="store_true", help="a full disk instead of kills")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that the disk is unmounted.
    last = "ended by it | MB needed" if options.full_disk else "during work | ended before"
    title = "full disks" if options.full_disk else "kills"
    print(f"| command | seconds undisturbed | {title} | {last} | all readable |\n|{'---|' * 6}")
    with tempfile.TemporaryDirectory() as name:
        drawn = Path(name, "drawn")
        draw(drawn)
        for title, command in COMMANDS.items():
            if title.split()[0] not in options.commands:
                continue
            folder = Path(tempfile.mkdtemp(dir=name))
            rng, disturb = random.Random(0), kill_often
            place, disk = folder / "place", nullcontext()
            place.mkdir()
            if options.full_disk:
                disk, disturb = small_disk(place), fill_often
            with disk:
                work = Workplace(command, folder, place, drawn)
                cells = disturb(work, options.kills, rng)
            print(f"| {title} | {work.seconds:.1f} | {' | '.join(cells)} |", flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
