"""What the commands that can work on a Ray cluster share."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crackclf.errors import UserError, notice

if TYPE_CHECKING:
    from crackclf.ray.carried import CarriedModel


class Engine(StrEnum):
    """Where the work is done."""

    LOCAL = "local"
    RAY = "ray"


_PANEL = "Cluster"
EngineOption = Annotated[
    Engine,
    typer.Option(
        help="Work in this process, or on a Ray cluster (pip install 'crackclf\\[ray]').",
        rich_help_panel=_PANEL,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Address of a running Ray cluster. Without it, Ray runs on this machine.",
        metavar="HOST:PORT",
        rich_help_panel=_PANEL,
    ),
]
Parquet = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the results of --engine ray: Parquet files, one row per image. An "
        "interrupted run goes on there.",
        metavar="FOLDER",
        rich_help_panel=_PANEL,
    ),
]


def check_engine(engine: Engine, address: str | None) -> None:
    """Refuses an engine that cannot be used, before hours of work."""
    if engine == Engine.RAY:
        from crackclf.ray.cluster import check_address

        check_address(address)
    elif address is not None:
        raise UserError("--address needs --engine ray.")


def check_results(engine: Engine, parquet: Path | None, other: object) -> None:
    """Refuses results that the engine does not write, before it begins."""
    if engine == Engine.LOCAL and parquet is not None:
        raise UserError("--parquet needs --engine ray.")
    if engine == Engine.RAY and (parquet is None or other is not None):
        raise UserError("--engine ray needs --parquet FOLDER, and writes nothing else.")


def answer(model: "CarriedModel", paths: list[str], out: Path, address: str | None) -> None:
    """Predicts or inspects images on a cluster, and prints the counts of each answer."""
    from crackclf.ray.answers import map_images

    outcome = map_images(model, paths, out, address)
    for name, count in sorted(outcome.counts.items()):
        print(f"{count:>9,}  {name}")
    print(out)
    for error in outcome.errors:
        notice(error)
    if outcome.unreadable:
        raise UserError(
            f"{outcome.unreadable} of {outcome.images} images could not be read; the column error "
            "says why."
        )
