"""The folder of a run's logs: which training is in it, and how far its logs go."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from crackclf.errors import UserError
from crackclf.files import remove_drafts, write_whole
from crackclf.training.settings import differences

BACKUPS = ("backup.npz", "backup.pt")
FINISHED = "finished.npz"
BEST_KERAS, BEST_TORCH = "best.keras", "best.pt"
FINE_TUNED = "fine-tuned"  # The folder of the second stage in that of the first.
_FULL = "No space left on device"


def is_finished(folder: Path) -> bool:
    """Whether a training has been in this folder and came to its end."""
    history = folder / "history.csv"
    begun = history.exists() and history.stat().st_size > 0
    return begun and not any((folder / name).exists() for name in BACKUPS)


def check_log_dir(folder: Path) -> None:
    """Refuses, before anything is trained, a folder in which a run is finished."""
    if is_finished(folder):
        raise UserError(
            f"{folder}: holds the curves of another run. Choose another log_dir, or move it away."
        )


def join_histories(folder: Path) -> str:
    """The history of a run's stages as one CSV text, epochs numbered on."""
    stages = [x for x in (folder, folder / FINE_TUNED) if (x / "history.csv").exists()]
    texts = [(stage / "history.csv").read_text().splitlines() for stage in stages]
    rows = [row.partition(",")[2] for _, *stage in texts for row in stage]
    return "\n".join([texts[0][0], *(f"{epoch},{row}" for epoch, row in enumerate(rows))]) + "\n"


def log_sizes(folder: Path) -> dict[str, int]:
    """How far history and curves go, in bytes, by the name of the file in the run's folder."""
    return {_name(folder, path): path.stat().st_size for path in _logs(folder)}


def cut_logs(folder: Path, sizes: Mapping[str, int]) -> None:
    """Cuts history and curves back to `sizes` from `log_sizes`; later files are removed."""
    for path in _logs(folder):
        if (name := _name(folder, path)) in sizes:
            os.truncate(path, sizes[name])
        else:
            path.unlink()


def _logs(folder: Path) -> list[Path]:
    return [*folder.glob("history.csv"), *folder.rglob("events.out.tfevents.*")]


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


class Run:
    """A training in its folder of logs, from the first try to the saved model.

    Args:
        folder: the run's folder.
        arguments: what decides the training, as JSON can hold it: its settings, "directory", and
            "out", the model folder.
    """

    def __init__(self, folder: Path, arguments: Mapping[str, Any]):
        self.folder = folder
        self._file = folder / "run.json"
        self._arguments = dict(arguments)

    @classmethod
    def named(cls, log_dir: Path, arguments: Mapping[str, Any]) -> "Run":
        """The run of a model folder: `LOG_DIR/NAME`, or `NAME-2` and so on.

        A number is added where that folder holds the run of a model of the same name elsewhere.
        """
        name = Path(arguments["out"]).name
        for number in count(1):
            run = cls(log_dir / (name if number == 1 else f"{name}-{number}"), arguments)
            if run._read().get("out", arguments["out"]) == arguments["out"]:
                return run
        raise AssertionError

    @property
    def is_free(self) -> bool:
        """Whether this training may go here: nothing is here, or an unsaved part of itself."""
        if not self._has_begun():
            return not any(self._visible())
        known = self._read()
        return not known.get("saved") and self._arguments.items() <= known.items()

    def check(self) -> bool:
        """Whether this training has begun here and goes on.

        Raises:
            UserError: when another run is here.
        """
        known, out = self._read(), self._arguments.get("out")
        if self.is_free:
            return self._has_begun()
        instead = f"Choose another --out than {out}, or move {self.folder} away."
        if not known or known.get("saved"):
            raise UserError(f"{self.folder}: holds the curves of another run. {instead}")
        raise UserError(
            f"{self.folder}: an interrupted run with other settings is here: "
            f"{differences(known, self._arguments)}. Give the same ones to go on. {instead}"
        )

    @contextmanager
    def going(self, facts: Mapping[str, str]) -> Iterator[None]:
        """Keeps the folder for this process, and notes in the end that the model is saved.

        Args:
            facts: what the training depends on besides its arguments, by what it is called, e.g.
                `{"images": fingerprint}`.

        Raises:
            UserError: when the training began with other facts, or another process runs it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"{self.folder}: another crackclf is running this training. Wait for it, or choose "
                "another --out."
            ) from None
        remove_drafts(self.folder)
        try:
            known = self._read()
            for name, fact in facts.items():
                if known.get(name, fact) != fact:
                    raise UserError(
                        f"{self.folder}: the interrupted run began with other {name}. Put them "
                        "back, or choose another --out."
                    )
            self._write(facts)
            yield
            self._write({**facts, "saved": True})
        except Exception as error:
            # Of a full disk h5py and NumPy tell by an OSError, TensorFlow by an error of its own.
            if isinstance(error, UserError) or not (
                isinstance(error, OSError) or _FULL in str(error)
            ):
                raise
            reason = error if isinstance(error, OSError) else _FULL
            raise UserError(
                f"{self.folder}: the training stopped ({reason}). All files written before are "
                "complete. Mend the cause, and run the same command again to go on."
            ) from error
        finally:
            lock.release()

    def _has_begun(self) -> bool:
        return self._file.exists()

    def _visible(self) -> list[Path]:
        found = self.folder.iterdir() if self.folder.exists() else ()
        return [path for path in found if not path.name.startswith(".")]

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._file.read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def _write(self, facts: Mapping[str, object]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._file, json.dumps(self._arguments | dict(facts), indent=2) + "\n")
