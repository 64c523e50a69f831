"""Options and arguments that several commands share."""

import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from crackclf.errors import UserError, notice
from crackclf.files import user_path
from crackclf.training.settings import TrainSettings

_MODEL = "Folder of a saved model, or the word shipped: the model in the box."
Model = Annotated[str, typer.Argument(help=_MODEL)]
ModelOption = Annotated[str, typer.Option("--model", help=_MODEL, rich_help_panel="Model")]
_DATA = "Folder with one sub-folder of images per class, e.g. Negative/ and Positive/."
Labelled = Annotated[Path, typer.Argument(help=_DATA)]
Splittable = Annotated[
    Path,
    typer.Argument(help=_DATA + " Or one with train/, validation/ and test/."),
]
MAX_SEED = 2**32 - 1
Sha256 = Annotated[
    str | None,
    typer.Option(
        "--sha256",
        help="Checksum of the model's card.json, from the model's maker. Another model is refused.",
        metavar="HEX",
        rich_help_panel="Model",
    ),
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Also write all figures to this file.", metavar="FILE")
]
_SETTINGS_FILE = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        help="The settings.json of an earlier training. Other options override it.",
        metavar="FILE",
    ),
]
RESULT_HEAD = '{\n  "written_by": "crackclf"'


def _option(name: str) -> Any:
    """The option of a field of `TrainSettings`; one that is off by default only turns it on."""
    flag = [f"--{name.replace('_', '-')}"] if getattr(TrainSettings, name) is False else []
    panel = TrainSettings.panel(name)
    return typer.Option(*flag, help=TrainSettings.help(name), rich_help_panel=panel)


Positive = Annotated[str | None, _option("positive")]
SkipUnreadable = Annotated[bool, _option("skip_unreadable")]


def with_settings(
    command: Any = None, *, leave_out: frozenset[str] | set[str] = frozenset()
) -> Any:
    """Gives a command an option for each field of `TrainSettings`, and `--settings FILE`.

    The command's `**settings` are those that the file names or the user gives.

    Args:
        command: a function of typed parameters and `**settings`.
        leave_out: fields without an option.
    """
    if command is None:
        return lambda function: with_settings(function, leave_out=leave_out)
    fields = {x.name: x for x in dataclasses.fields(TrainSettings) if x.name not in leave_out}

    @wraps(command)
    def run(context: typer.Context, settings_file: Path | None, **given: Any) -> None:
        source = context.get_parameter_source
        settings = {name: given.pop(name) for name in fields}
        if settings_file is not None:
            chosen = {n: x for n, x in settings.items() if source(n).name == "COMMANDLINE"}  # type: ignore[union-attr]
            known = TrainSettings.read(settings_file).to_dict()
            settings = {n: x for n, x in known.items() if n in fields} | chosen
        command(**given, **settings)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [
        x.replace(kind=keyword)
        for x in inspect.signature(command).parameters.values()
        if x.name != "settings"
    ]
    rest = [x for x in own if getattr(x.annotation.__metadata__[0], "rich_help_panel", None)]
    parameters = [
        inspect.Parameter("context", keyword, annotation=typer.Context),
        *(x for x in own if x not in rest),
        inspect.Parameter("settings_file", keyword, default=None, annotation=_SETTINGS_FILE),
        *(
            inspect.Parameter(
                n, keyword, default=x.default, annotation=Annotated[x.type, _option(n)]
            )
            for n, x in fields.items()
        ),
        *rest,
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {x.name: x.annotation for x in parameters}
    return run


def check_folder(directory: Path) -> None:
    """Refuses a folder that does not exist, before anything that is slow to import."""
    directory = user_path(directory)
    if not directory.is_dir():
        found = "is a file" if directory.exists() else "no such folder"
        raise UserError(
            f"{directory}: {found}. Expected a folder with one sub-folder of images per class, "
            "e.g. Negative/ and Positive/."
        )


def check_model(model: str, sha256: str | None) -> None:
    """Refuses a model that is not the one whose sum the user was given."""
    if sha256 is not None:
        from crackclf.saved.store import open_model

        open_model(model, sha256)


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Writes figures as JSON, as `--json` promises."""
    from crackclf.files import write_whole

    write_whole(user_path(path), json.dumps({"written_by": "crackclf", **result}, indent=2) + "\n")


@contextmanager
def resumable() -> Iterator[None]:
    """Says on Ctrl-C that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        notice("interrupted. Run the same command again to go on")
        raise
