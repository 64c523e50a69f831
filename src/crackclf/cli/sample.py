"""crackclf sample."""

from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import options


def sample(
    directory: Annotated[Path, typer.Argument(help="Folder to make.")],
    count: Annotated[int, typer.Option(help="Number of images, half of them cracked.")] = 1200,
    seed: Annotated[
        int, typer.Option(min=0, max=options.MAX_SEED, help="Same seed, same images.")
    ] = 0,
    photos: Annotated[
        bool, typer.Option("--photos", help="Whole photos and masks of their cracks instead.")
    ] = False,
) -> None:
    """Draws concrete patches, cracked and sound, to try everything on.

    \b
    Examples:
      crackclf sample data/sample --count 1200 --seed 0
      crackclf sample data/photos --count 6 --photos
    """
    from crackclf.sample.write import write_photos, write_sample

    print((write_photos if photos else write_sample)(directory, count, seed))
