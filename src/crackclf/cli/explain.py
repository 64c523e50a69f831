"""`crackclf explain`."""

from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import options
from crackclf.errors import UserError, notice
from crackclf.files import user_path

_MOST = 60  # Patches in one picture.


def explain(
    paths: Annotated[list[Path], typer.Argument(help="Patches, or folders of patches.")],
    out: Annotated[
        Path, typer.Option(help="PNG file to write. It must not exist.", metavar="FILE")
    ],
    model: options.ModelOption = "shipped",
    sha256: options.Sha256 = None,
) -> None:
    """Shows which part of a patch looks like a crack.

    The picture shows each patch, and beside it the same patch with the
    evidence for a crack laid over it. It takes up to 60 patches. For whole
    photos use `crackclf inspect`.

    Examples:
      crackclf explain patch.jpg --out why.png
      crackclf explain patches/ --model saved_models/first --out why.png
    """
    options.check_model(model, sha256)
    out = user_path(out)
    if out.suffix.lower() != ".png" or out.exists() or not out.parent.is_dir():
        raise UserError(
            f"{out}: expected the name of a PNG file that does not exist, in a folder that does."
        )
    from crackclf.images.listing import find_images

    files = find_images(paths)
    if len(files) > _MOST:
        raise UserError(f"expected at most {_MOST} patches in one picture. Received: {len(files)}.")
    from crackclf.evaluation.plots import plot_explanations
    from crackclf.files import writing
    from crackclf.images.decode import read_image
    from crackclf.prediction.classifier import load_model
    from crackclf.prediction.explain import explain as explain_patch
    from crackclf.prediction.predict import predict

    classifier = load_model(model)
    images = [read_image(path) for path in files]
    figure = plot_explanations(
        images,
        [explain_patch(image, classifier) for image in images],
        [
            f"{Path(x.file).name}\n{x.label} ({x.probability:.2f})"
            for x in predict(files, classifier)
        ],
    )
    with writing(out) as file:
        figure.savefig(file, format="png", dpi=120)
    card = classifier.card
    notice(f"{card.positive_class}: a probability of {card.threshold:.4f} or more")
    print(out)
