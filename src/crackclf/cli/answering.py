"""The commands that look for cracks with a saved model."""

import dataclasses
from pathlib import Path

from crackclf.cli import options
from crackclf.cli.options import option
from crackclf.errors import UserError, notice, show


def predict(
    paths: list[str] = options.IMAGES,
    model: str = options.MODEL,
    csv_file: Path | None = options.result(
        "Also write a table to this file.", "--csv", "file,label,"
    ),
) -> None:
    """Predicts for each image whether it shows a crack.

    Each line has the probability of a crack, the class and the file. The
    table of --csv also has the other probabilities of a model of three or
    more classes. The exit status is 2 when an image cannot be read.

    Examples:
      crackclf predict wall.jpg
      crackclf predict photos/ --model saved_models/first --csv cracks.csv
    """
    from crackclf.files import format_table, write_whole
    from crackclf.listing import find_images
    from crackclf.prediction import load_model
    from crackclf.prediction import predict as predict_images

    files, classifier = find_images(paths), load_model(model)
    card, predictions = classifier.card, predict_images(files, classifier)
    if csv_file is not None:
        names = card.class_names if len(card.class_names) > 2 else ()
        rows = (dict(zip(names, p.probabilities, strict=False)) | vars(p) for p in predictions)
        write_whole(csv_file, format_table(["file", "label", "probability", "error", *names], rows))
    notice(f"{card.positive_class}: a probability of {card.threshold:.4f} or more")
    for prediction in predictions:
        if not prediction.error:
            print(f"{prediction.probability:.4f}  {prediction.label}  {show(prediction.file)}")
    options.report_unreadable([prediction.error for prediction in predictions])


def inspect(
    paths: list[str] | None = options.NO_OR_IMAGES,
    model: str = options.MODEL,
    out: Path = option("inspection", "Folder for the report. Photos are added to an earlier one."),
    mm_per_pixel: float | None = options.MM_PER_PIXEL,
    distance: float | None = options.DISTANCE,
    scale_file: Path | None = option(None, "CSV with the columns file and mm_per_pixel."),
    width_classes: str = option("", "Limits of width in mm, 0.2,0.4,1; or aci224r, eurocode2."),
    false_alarms: float = option(0.1, "Share of sound photos that may be called cracked."),
    sound: str | None = option(None, "Folder of 9 sound photos or more, or a reviewed.csv."),
    region_threshold: float | None = option(None, "Least probability of a crack's region."),
    reviewed: Path | None = option(None, "Table that report.html has saved: wrong cracks go."),
    title: str = option("", "Title of the report."),
    client: str = option("", "Client, named above the report."),
    inspector: str = option("", "Inspector, named above the report."),
) -> None:
    """Finds, traces and measures the cracks in whole photos.

    The folder --out gets
      report.html        one page to mail or print
      photos.csv         one row per photo, with its place if EXIF has it
      cracks.csv         one row per crack: length, width, place
      cracks.coco.json   outlines of the cracks, for annotation tools
      inspection.json    all results
      overlays/          each photo beside its traced cracks

    The exit status is 2 when a photo cannot be read. The others are inspected.

    Examples:
      crackclf inspect site/ --distance 3 --width-classes 0.2,0.4,1
      crackclf inspect site/ --model saved_models/first --sound site-sound/
      crackclf inspect --reviewed reviewed.csv
    """
    from crackclf.calibration import choose_region_threshold
    from crackclf.listing import find_images
    from crackclf.photos.folder import inspect_photos
    from crackclf.photos.photo import measure_sound_peaks
    from crackclf.photos.records import WIDTH_CLASSES, Scale, list_sound, read_scales, sum_up
    from crackclf.prediction import load_model

    if sound is not None and region_threshold is not None:
        raise UserError("--sound measures the threshold. Leave out --region-threshold, or --sound.")
    try:
        numbers = WIDTH_CLASSES.get(width_classes) or filter(None, width_classes.split(","))
        classes = tuple(map(float, numbers))
    except ValueError:
        expected = f"--width-classes: expected {' or '.join(WIDTH_CLASSES)}, or numbers: 0.2,0.4,1"
        raise UserError(f"{expected}. Received: {width_classes}.") from None
    by_file = {} if scale_file is None else read_scales(scale_file)
    Scale(mm_per_pixel, distance, classes, by_file)  # Refused before --sound is measured.
    if not paths and reviewed is None:
        raise UserError("name photos, or folders of photos.")
    files, classifier = find_images(paths or []), load_model(model)
    if sound is not None:
        sound_files = find_images(list_sound(sound) if sound.endswith(".csv") else [sound])
        choose_region_threshold([0.0] * len(sound_files), false_alarms)  # Are they enough?
        peaks = measure_sound_peaks(sound_files, classifier)
        card = dataclasses.replace(classifier.card, sound_peaks=peaks)
        classifier = dataclasses.replace(classifier, card=card)
    scale = mm_per_pixel, region_threshold, distance, classes, scale_file
    heading = {"title": title, "client": client, "inspector": inspector}
    photos = inspect_photos(files, classifier, out, false_alarms, *scale, reviewed, heading)
    for photo in photos:
        if photo["quality"] and not photo["error"]:
            notice(f"{photo['file']}: {photo['quality']}")
        if photo["verdict"]:
            answer = f"{photo['probability']:.4f}  {photo['verdict']}  {photo['file']}"
            print(f"{answer}  {sum_up(photo)}".rstrip())
    print(out / "report.html")
    options.report_unreadable([photo["error"] for photo in photos])


def app(
    model: str = options.MODEL, port: int = option(7860, "Port of this machine.", min=1, max=65535)
) -> None:
    """Opens a web page on this machine: drop photos, see their cracks.

    A patch gets its probability and a picture of the evidence. Whole photos
    get their traced cracks and one report to download. The page can be opened
    on this machine only, and needs no network. Ctrl-C stops it and deletes
    the uploads. It needs pip install 'crackclf[app]'.

    Examples:
      crackclf app
      crackclf app --model saved_models/first --port 8080
    """
    from crackclf.app import serve
    from crackclf.prediction import load_model

    serve(load_model(model), port)
