"""The commands that look for cracks with a saved model."""

import dataclasses
from pathlib import Path

from crackclf.cli import options
from crackclf.cli.options import option
from crackclf.errors import UserError, notice, show
from crackclf.files import user_path, writing


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
    paths: list[str] = options.IMAGES,
    model: str = options.MODEL,
    out: Path = option("inspection", "Folder for the report. Photos are added to an earlier one."),
    mm_per_pixel: float | None = options.MM_PER_PIXEL,
    distance: float | None = option(None, "Metres to the surface. EXIF gives the focal length."),
    width_classes: str = option("", "Limits between classes of crack width in mm: 0.2,0.4,1."),
    false_alarms: float = option(0.1, "Share of sound photos that may be called cracked."),
    sound: str | None = option(None, "9 or more photos of sound surfaces, to measure it on."),
    region_threshold: float | None = option(None, "Least probability of a crack's region."),
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

    The exit status is 2 when a photo cannot be read. The others are inspected.

    Examples:
      crackclf inspect site/ --distance 3 --width-classes 0.2,0.4,1
      crackclf inspect site/ --model saved_models/first --sound site-sound/
    """
    from crackclf.calibration import choose_region_threshold
    from crackclf.listing import find_images
    from crackclf.photos.folder import inspect_photos
    from crackclf.photos.photo import measure_sound_peaks
    from crackclf.photos.records import Scale, sum_up
    from crackclf.prediction import load_model

    if sound is not None and region_threshold is not None:
        raise UserError("--sound measures the threshold. Leave out --region-threshold, or --sound.")
    try:
        classes = tuple(float(x) for x in width_classes.split(",") if x)
    except ValueError:
        expected = "--width-classes: expected numbers such as 0.2,0.4,1"
        raise UserError(f"{expected}. Received: {width_classes}.") from None
    Scale(mm_per_pixel, distance, classes)  # Refuses a wrong scale before --sound is measured.
    files, classifier = find_images(paths), load_model(model)
    if sound is not None:
        sound_files = find_images([sound])
        choose_region_threshold([0.0] * len(sound_files), false_alarms)  # Are they enough?
        peaks = measure_sound_peaks(sound_files, classifier)
        card = dataclasses.replace(classifier.card, sound_peaks=peaks)
        classifier = dataclasses.replace(classifier, card=card)
    photos = inspect_photos(
        files, classifier, out, false_alarms, mm_per_pixel, region_threshold, distance, classes
    )
    for photo in photos:
        if not photo["error"]:
            answer = f"{photo['probability']:.4f}  {photo['verdict']}  {photo['file']}"
            print(f"{answer}  {sum_up(photo)}".rstrip())
    print(out / "report.html")
    options.report_unreadable([photo["error"] for photo in photos])


def explain(
    paths: list[str] = options.IMAGES,
    out: Path = option(..., "PNG file to write. It must not exist."),
    model: str = options.MODEL,
) -> None:
    """Shows which part of a patch looks like a crack.

    The picture shows each patch, and beside it the same patch with the
    evidence for a crack laid over it. It takes up to 60 patches. For whole
    photos use `crackclf inspect`.

    Examples:
      crackclf explain patch.jpg --out why.png
      crackclf explain patches/ --model saved_models/first --out why.png
    """
    from crackclf.images import read_image
    from crackclf.listing import find_images
    from crackclf.plots import plot_explanations
    from crackclf.prediction import explain as explain_patch
    from crackclf.prediction import load_model, predict

    out = user_path(out)
    if out.suffix.lower() != ".png" or out.exists() or not out.parent.is_dir():
        raise UserError(f"expected a new PNG file in a folder that exists. Received: {show(out)}.")
    files = find_images(paths)
    if len(files) > 60:
        raise UserError(f"expected at most 60 patches in one picture. Received: {len(files)}.")
    classifier, images = load_model(model), [read_image(path) for path in files]
    evidence = [explain_patch(image, classifier) for image in images]
    found = zip(files, predict(images, classifier), strict=True)
    titles = [f"{show(file.name)}\n{x.label} ({x.probability:.2f})" for file, x in found]
    with writing(out) as draft:
        plot_explanations(images, evidence, titles).savefig(draft, dpi=120)
    print(out)


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


def cluster(
    paths: list[str] = options.IMAGES,
    out: str = option(..., "Folder for Parquet files with one row per image."),
    inspect: bool = option(False, "Inspect whole photos, instead of predicting.", "--inspect"),
    model: str = options.MODEL,
    mm_per_pixel: float | None = options.MM_PER_PIXEL,
    address: str | None = option(None, "A running Ray cluster.", metavar="HOST:PORT"),
) -> None:
    """Predicts or inspects many images on a Ray cluster.

    Paths may be addresses of an object store, such as s3:// and gs://. It
    needs pip install 'crackclf[cluster]'.

    Examples:
      crackclf cluster s3://bridges/patches/ --out found/
      crackclf cluster site/ --inspect --mm-per-pixel 0.4 --out found/
    """
    from crackclf.cluster import answer_images

    counts = answer_images(paths, out, model, inspect, mm_per_pixel, address)
    unreadable = counts.pop("", 0)
    for name, count in sorted(counts.items()):
        print(f"{count:>9,}  {name}")
    print(out)
    if unreadable:
        raise UserError(f"{unreadable:,} images could not be read; the column error says why.")
