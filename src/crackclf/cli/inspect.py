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
        typer.Argument(
            help="Photos, or folders of photos. With --engine ray also s3:// and gs://."
        ),
    ],
    model: options.ModelOption = "shipped",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the report. Photos are added to an inspection that is already there."
            "  \\[default: inspection]"
        ),
    ] = None,
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(
            help="Millimetres on the surface per pixel. Sizes are then in mm and m².",
            rich_help_panel="Scale",
        ),
    ] = None,
    distance: Annotated[
        float | None,
        typer.Option(
            help="Metres from the camera to the surface, instead of --mm-per-pixel. The focal "
            "length is read from EXIF.",
            rich_help_panel="Scale",
        ),
    ] = None,
    width_classes: Annotated[
        str,
        typer.Option(
            help="Limits between classes of crack width in mm, e.g. 0.2,0.4,1.",
            rich_help_panel="Scale",
        ),
    ] = "",
    false_alarms: Annotated[
        float,
        typer.Option(
            help="Share of sound photos that may be called cracked.", rich_help_panel="Threshold"
        ),
    ] = 0.1,
    sound: Annotated[
        Path | None,
        typer.Option(
            help="Photos of sound surfaces like yours, to measure the threshold for "
            "--false-alarms on. 9 photos or more for 0.1.",
            metavar="FOLDER",
            rich_help_panel="Threshold",
        ),
    ] = None,
    region_threshold: Annotated[
        float | None,
        typer.Option(
            help="Probability from which a region is a crack, instead of --false-alarms. For your "
            "own model, when you have no photos for --sound.",
            rich_help_panel="Threshold",
        ),
    ] = None,
    engine: cluster.EngineOption = cluster.Engine.LOCAL,
    address: cluster.Address = None,
    parquet: cluster.Parquet = None,
    sha256: options.Sha256 = None,
) -> None:
    """Finds, traces and measures the cracks in whole photos.

    The folder --out gets
      report.html        one page to mail or print
      photos.csv         one row per photo
      cracks.csv         one row per crack: length, width, place
      cracks.coco.json   outlines of the cracks, for annotation tools
      inspection.json    all results
      positions.geojson  where the photos were taken, if EXIF has it
      overlays/          each photo beside its traced cracks

    The exit status is 2 when a photo cannot be read. The other photos are
    inspected.

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
                f"{model}: has no threshold for photos. Measure one with --sound FOLDER, a folder "
                "of photos of sound surfaces, or give --region-threshold."
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
            said = f"{photo['probability']:.4f}  {photo['verdict']}  {photo['file']}"
            print(f"{said}  {sum_up(photo)}".rstrip())
    print(f"{out / 'report.html'}")
    for photo in unreadable:
        notice(photo["error"])
    if unreadable:
        raise UserError(f"{len(unreadable)} of {len(photos)} photos could not be read.")
