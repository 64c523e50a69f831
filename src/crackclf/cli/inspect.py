"""`crackclf inspect`."""

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
            help="Folder to make, or one whose inspection goes on or gets more photos.  "
            "\\[default: inspection]"
        ),
    ] = None,
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(help="Millimetres on the surface for a pixel, to give sizes in mm and m²."),
    ] = None,
    distance: Annotated[
        float | None,
        typer.Option(
            help="Metres from the camera to the surface, in place of --mm-per-pixel: the photos' "
            "focal length (EXIF) does the rest."
        ),
    ] = None,
    width_classes: Annotated[
        str,
        typer.Option(help="Bounds of classes of crack widths in mm, such as 0.2,0.4,1."),
    ] = "",
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
    region_threshold: Annotated[
        float | None,
        typer.Option(
            help="Probability above which a region is a crack, in place of --false-alarms; for a "
            "model of your own, when there are no photos for --sound."
        ),
    ] = None,
    engine: cluster.EngineOption = cluster.Engine.LOCAL,
    address: cluster.Address = None,
    parquet: cluster.Parquet = None,
    sha256: options.Sha256 = None,
) -> None:
    """Looks for cracks all over whole photos, and reports.

    OUT gets report.html (one file to mail: pictures, sortable table, filter), photos.csv and
    cracks.csv (a row a crack: length, width, place), inspection.json, positions.geojson when the
    photos say where they were taken, and in overlays/ a picture of each photo beside its traced
    cracks. Exit status 2 when some photo could not be read; the
    others are inspected all the same.

    \b
    Examples:
      crackclf inspect bridge.jpg
      crackclf inspect site/2026-05/ --out reports/2026-05 --mm-per-pixel 0.4
      crackclf inspect site/ --distance 3 --width-classes 0.2,0.4,1
      crackclf inspect site/ --model saved_models/first --sound site-sound/
      crackclf inspect s3://bridges/2026/ --engine ray --parquet found/
    """
    cluster.check_engine(engine, address)
    if parquet is not None and (distance is not None or width_classes):
        raise UserError("--distance and --width-classes do not go with --parquet.")
    from crackclf.inspection.records import Scale, sum_up

    try:
        classes = [float(x) for x in width_classes.split(",") if x]
    except ValueError:
        raise UserError(
            f"--width-classes: expected numbers such as 0.2,0.4,1. Received: {width_classes}."
        ) from None
    Scale(mm_per_pixel, distance, tuple(classes))  # Refuses at once what cannot be.
    options.check_model(model, sha256)
    cluster.check_results(engine, parquet, out)
    from crackclf.images.listing import find_images

    if parquet is None:
        find_images(paths)
    from crackclf.evaluation.calibration import choose_region_threshold
    from crackclf.prediction.classifier import load_model

    classifier = load_model(model)
    with options.resumable():
        if sound is not None:
            from crackclf.inspection.photo import measure_sound_peaks

            photos_of_sound = find_images([sound])
            choose_region_threshold([0.0] * len(photos_of_sound), false_alarms)  # Are they enough?
            peaks = measure_sound_peaks(photos_of_sound, classifier)
            card = dataclasses.replace(classifier.card, sound_peaks=peaks)
            classifier = dataclasses.replace(classifier, card=card)
        elif region_threshold is None and not classifier.card.sound_peaks:
            raise UserError(
                f"{model}: its card does not say what it makes of photos of sound surfaces, so the "
                "probability above which a region is a crack is not known. Name a folder of such "
                "photos with --sound, or give --region-threshold."
            )
        if parquet is not None:
            from crackclf.ray.carried import Inspector

            if region_threshold is None:
                peaks = classifier.card.sound_peaks
                region_threshold = choose_region_threshold(peaks, false_alarms)
            carried = Inspector(model, region_threshold, mm_per_pixel)
            cluster.answer(carried, paths, parquet, address)
            return
        from crackclf.inspection.folder import inspect_photos

        out = out or Path("inspection")
        photos = inspect_photos(
            *(paths, classifier, out, false_alarms, mm_per_pixel, region_threshold, distance),
            width_classes=classes,
        )
    unreadable = [photo for photo in photos if photo["error"]]
    for photo in photos:
        if not photo["error"]:
            print(
                f"{photo['probability']:.4f}  {photo['verdict']}  {photo['file']}  {sum_up(photo)}"
            )
    print(f"{out / 'report.html'}")
    for photo in unreadable:
        notice(photo["error"])
    if unreadable:
        raise UserError(f"{len(unreadable)} of {len(photos)} photos could not be read.")
