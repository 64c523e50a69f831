"""`crackclf sample`."""

from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import options


def sample(
    directory: Annotated[Path, typer.Argument(help="Folder to make. It must be new or empty.")],
    count: Annotated[int, typer.Option(help="Number of images, half of them cracked.")] = 1200,
    seed: Annotated[int, typer.Option(min=0, max=options.MAX_SEED, help="Chooses the images.")] = 0,
    photos: Annotated[
        bool, typer.Option("--photos", help="Draw whole photos, with masks of their cracks.")
    ] = False,
) -> None:
    """Draws images of cracked and sound concrete, to try crackclf on.

    The same seed draws the same images. A larger sample contains the smaller.

    Examples:
      crackclf sample data/sample --count 1200 --seed 0
      crackclf sample data/photos --count 6 --photos
    """
    from crackclf.sample.write import write_photos, write_sample

    print((write_photos if photos else write_sample)(directory, count, seed))
