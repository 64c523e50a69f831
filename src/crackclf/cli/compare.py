"""`crackclf compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from crackclf.cli import options
from crackclf.quiet import import_tensorflow


@options.with_settings(leave_out={"backbone", "folds"})
def compare(
    directory: options.Splittable,
    backbones: Annotated[
        list[str],
        typer.Option(
            help="Two or more of mobilenetv2, mobilenetv3large, vgg16, vgg16-block4 (vgg16 up to "
            "its fourth block), resnet50, resnet50v2, efficientnetv2b0, efficientnetlite0, "
            "efficientnetlite1, efficientnetlite2, convnexttiny and resnet18-torch (in PyTorch: "
            "pip install 'crackclf\\[torch]').",
            metavar="NAME ...",
        ),
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for figures and plot. Each model goes to OUT-NAME, its curves to logs/."
        ),
    ] = Path("saved_models/comparison"),
    json_file: options.Json = None,
    **settings: Any,
) -> None:
    """Compares backbones: accuracy, speed and size on the same images.

    Each backbone is trained with the same split, head and number of epochs.
    The table has the accuracy with its 95 % interval, and McNemar's exact
    test for each pair. A backbone without weights is named and left out.
    To go on after an interruption, run the same command again.

    Examples:
      crackclf compare data/metu --backbones vgg16 resnet50 mobilenetv2
      crackclf compare data/metu --backbones vgg16 vgg16-block4 --json vgg.json
    """
    options.check_folder(directory)
    import_tensorflow()
    from crackclf.files import check_result_path
    from crackclf.training.compare import compare as compare_backbones

    if json_file is not None:
        check_result_path(json_file, options.RESULT_HEAD)
    with options.resumable():
        comparison = compare_backbones(directory, [*backbones, *(more or [])], out, **settings)
    print(comparison)
    print(f"Figures and plot in {out}")
    if json_file is not None:
        options.write_result(json_file, {"data": str(directory)} | comparison.to_dict())
