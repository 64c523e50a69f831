"""What the commands that can work on a Ray cluster share."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crackclf.errors import UserError, notice

if TYPE_CHECKING:
    from crackclf.ray.carried import CarriedModel


class Engine(StrEnum):
    """Who does the work."""

    LOCAL = "local"
    RAY = "ray"


_PANEL = "Cluster"
EngineOption = Annotated[
    Engine,
    typer.Option(
        help="This process, or a Ray cluster: pip install 'crackclf\\[ray]'.",
        rich_help_panel=_PANEL,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Of a running Ray cluster; without it, ray takes the cores of this machine.",
        metavar="HOST:PORT",
        rich_help_panel=_PANEL,
    ),
]
Parquet = Annotated[
    Path | None,
    typer.Option(
        help="With --engine ray: folder of Parquet files to make, a row for each image, or one "
        "whose run is to go on.",
        metavar="FOLDER",
        rich_help_panel=_PANEL,
    ),
]


def check_engine(engine: Engine, address: str | None) -> None:
    """Finds out whether the engine can be used, before hours of work rather than after."""
    if engine == Engine.RAY:
        from crackclf.ray.cluster import check_address

        check_address(address)
    elif address is not None:
        raise UserError("--address goes with --engine ray.")


def check_results(engine: Engine, parquet: Path | None, other: object) -> None:
    """Refuses results that the engine does not write, before it begins."""
    if engine == Engine.LOCAL and parquet is not None:
        raise UserError("--parquet goes with --engine ray.")
    if engine == Engine.RAY and (parquet is None or other is not None):
        raise UserError("--engine ray writes to --parquet FOLDER, which it needs, and only there.")


def answer(model: "CarriedModel", paths: list[str], out: Path, address: str | None) -> None:
    """Answers for images on a cluster, and prints what came of it; see `map_images`."""
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
