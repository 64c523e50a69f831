"""Commands that look into pictures: whole photos, and single patches."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import cluster, options
from crackclf.errors import UserError, notice


def inspect(
    paths: Annotated[
        list[str],
        typer.Argument(help="Photos and folders of photos; with --engine ray also s3://, gs://."),
    ],
    model: Annotated[str, typer.Option(help=options.MODEL)] = "shipped",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to make, or one whose inspection is to go on.  [default: inspection]"
        ),
    ] = None,
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(help="Millimetres on the surface for a pixel, to give areas in m²."),
    ] = None,
    false_alarms: Annotated[
        float, typer.Option(help="Share of sound photos that may be called cracked.")
    ] = 0.05,
    sound: Annotated[
        Path | None,
        typer.Option(
            help="Photos of sound surfaces like those to be inspected, on which the threshold for "
            "that is then measured; 19 or more for one in twenty.",
            metavar="FOLDER",
        ),
    ] = None,
    engine: cluster.EngineOption = cluster.Engine.LOCAL,
    address: cluster.Address = None,
    parquet: cluster.Parquet = None,
) -> None:
    """Looks for cracks all over whole photos, and reports.

    OUT gets report.html (one file to mail: pictures, sortable table, filter), photos.csv,
    inspection.json, positions.geojson when the photos say where they were taken, and a picture of
    each photo with its heat map in overlays/. Exit status 2 when some photo could not be read; the
    others are inspected all the same.

    \b
    Examples:
      crackclf inspect bridge.jpg
      crackclf inspect site/2026-05/ --out reports/2026-05 --mm-per-pixel 0.4
      crackclf inspect site/ --model saved_models/first --sound site-sound/
      crackclf inspect s3://bridges/2026/ --engine ray --parquet found/
    """
    cluster.check_engine(engine, address)
    cluster.check_results(engine, parquet, out)
    from crackclf.evaluation.calibration import choose_region_threshold
    from crackclf.inference.batch import inspect_photos
    from crackclf.inference.inspection import measure_sound_peaks
    from crackclf.inference.predict import find_images
    from crackclf.models.saving import load_model

    if parquet is None:
        find_images(paths)
    classifier = load_model(model)
    with options.resumable():
        if sound is not None:
            photos_of_sound = find_images([sound])
            choose_region_threshold([0.0] * len(photos_of_sound), false_alarms)  # Are they enough?
            peaks = measure_sound_peaks(photos_of_sound, classifier)
            card = dataclasses.replace(classifier.card, sound_peaks=peaks)
            classifier = dataclasses.replace(classifier, card=card)
        elif not classifier.card.sound_peaks:
            raise UserError(
                f"{model}: its card does not say what it makes of photos of sound surfaces, so "
                "that nobody knows above which probability a region is a crack. Name a folder of "
                "such photos with --sound."
            )
        if parquet is not None:
            from crackclf.inference.predictor import Inspector

            threshold = choose_region_threshold(classifier.card.sound_peaks, false_alarms)
            cluster.answer(Inspector(model, threshold, mm_per_pixel), paths, parquet, address)
            return
        out = out or Path("inspection")
        photos = inspect_photos(paths, classifier, out, false_alarms, mm_per_pixel)
    unreadable = [photo for photo in photos if photo["error"]]
    for photo in photos:
        if not photo["error"]:
            count = len(photo["regions"])
            regions = f"{count} region{'s' * (count != 1)}, {photo['area_share']:.2%}"
            print(f"{photo['probability']:.4f}  {photo['verdict']}  {photo['file']}  {regions}")
    print(f"{out / 'report.html'}")
    for photo in unreadable:
        notice(photo["error"])
    if unreadable:
        raise UserError(f"{len(unreadable)} of {len(photos)} photos could not be read.")


def explain(
    paths: Annotated[list[Path], typer.Argument(help="Patches and folders of patches.")],
    out: Annotated[Path, typer.Option(help="PNG file to write; must not exist.", metavar="FILE")],
    model: Annotated[str, typer.Option(help=options.MODEL)] = "shipped",
) -> None:
    """Shows where in a patch the evidence for a crack lies (Grad-CAM).

    One picture of all patches, each beside itself with the evidence laid over it; at most 60. For
    whole photos there is `crackclf inspect`.

    \b
    Example:
      crackclf explain patch.jpg other.jpg --out why.png
    """
    import io

    from crackclf.data.files import write_whole
    from crackclf.data.images import read_image
    from crackclf.evaluation.explanation import explain as explain_patch
    from crackclf.evaluation.plots import plot_explanations
    from crackclf.inference.predict import find_images, predict
    from crackclf.models.saving import load_model

    if out.suffix.lower() != ".png" or out.exists() or not out.parent.is_dir():
        raise UserError(
            f"{out}: expected the name of a PNG file that does not exist, in a folder that does."
        )
    files = find_images(paths)
    if len(files) > 60:
        raise UserError(f"expected at most 60 patches in one picture. Received: {len(files)}.")
    classifier = load_model(model)
    said = predict(files, classifier)
    images = [read_image(path) for path in files]
    figure = plot_explanations(
        images,
        [explain_patch(image, classifier) for image in images],
        [f"{Path(p.file).name}\n{p.label} ({p.probability:.2f})" for p in said],
    )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_whole(out, content.getvalue())
    print(out)
