"""Pictures made to cost time and memory: what each takes, and the worst of many mutated ones.

    python benchmarks/hostile.py [--mutations 2000] [--before PYTHON]

Each attack is one picture, given to a fresh process that predicts it or inspects it. The mutated
pictures are JPEG, PNG, GIF, BMP, TIFF and WebP files of 200 x 150 pixels with EXIF, of which some
bytes were changed, removed or repeated; each is decoded in one process, and the slowest is named.
PYTHON is the interpreter of an environment with another version, which then takes its turn.
"""

import io
import json
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

_SECONDS = 180.0  # After which an attack has won.
_RUN = """
import json, sys, time
start = time.perf_counter()
import crackclf
classifier = crackclf.load_model()
ready = time.perf_counter()
try:
    if sys.argv[2] == "predict":
        [said] = crackclf.predict(sys.argv[1], classifier)
        said = said.error or f"{said.label} {said.probability:.3f}"
    else:
        said = crackclf.inspect_photo(sys.argv[1], classifier).verdict
except crackclf.UserError as error:
    said = str(error)
lines = open("/proc/self/status").read().splitlines()
peak = next(int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM"))
print(json.dumps([time.perf_counter() - ready, peak, said.replace(sys.argv[1] + ": ", "")]))
"""
_MUTATED = """
import json, sys, time
from pathlib import Path
from crackclf.errors import UserError
from crackclf.images.decode import read_photo
slowest, name, answered = 0, "", 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    start = time.perf_counter()
    try:
        read_photo(path)
        answered += 1
    except UserError:
        pass
    seconds = time.perf_counter() - start
    if seconds > slowest:
        slowest, name = seconds, path.name
lines = open("/proc/self/status").read().splitlines()
peak = next(int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM"))
print(json.dumps([slowest, peak, f"{answered} decoded, the slowest is {name}"]))
"""


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as the bytes of a file."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def noise(width: int = 600, height: int = 400, seed: int = 0) -> Image.Image:
    """A picture like concrete, hardly."""
    pixels = np.random.default_rng(seed).integers(90, 160, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def jpeg_of_segments() -> bytes:
    """A JPEG of 100,000 segments of EXIF."""
    plain = encode(noise(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 14) + b"Exif\0\0" + b"abcdef"
    return plain[:2] + 100_000 * segment + plain[2:]


def gif_of_comment(block: int, size: int) -> bytes:
    """A GIF whose comment has so many bytes, in blocks of so many."""
    plain = encode(noise(60, 40).convert("P"), "GIF")
    head = 13 + (6 << (plain[10] & 7) if plain[10] & 0x80 else 0)
    comment = b"\x21\xfe" + (size // block) * (bytes([block]) + block * b"a") + b"\0"
    return plain[:head] + comment + plain[head:]


def gif_of_comments(count: int) -> bytes:
    """A GIF of many comments of one byte."""
    plain = encode(noise(60, 40).convert("P"), "GIF")
    head = 13 + (6 << (plain[10] & 7) if plain[10] & 0x80 else 0)
    return plain[:head] + count * b"\x21\xfe\x01a\0" + plain[head:]


def png_of_size(width: int, height: int, depth: int = 8, clear: bool = False) -> bytes:
    """A grey PNG of one value, made without ever holding its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    row = b"\0" + b"\x80" * (-(-width * depth // 8))
    packer, parts = zlib.compressobj(), []
    for _ in range(height):
        parts.append(packer.compress(row))
    parts.append(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", struct.pack(">H", 0)) if clear else b"")
        + chunk(b"IDAT", b"".join(parts))
        + chunk(b"IEND", b"")
    )


# By name: the file's suffix, its bytes, and what it is given to.
ATTACKS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "JPEG, 100,000 EXIF segments": (".jpg", jpeg_of_segments, "predict"),
    "GIF, comment of 4 MB": (".gif", lambda: gif_of_comment(255, 4_000_000), "predict"),
    "GIF, 4 MB in blocks of 1 byte": (".gif", lambda: gif_of_comment(1, 2_000_000), "predict"),
    "GIF, 300,000 comments": (".gif", lambda: gif_of_comments(300_000), "predict"),
    "PNG, 1 x 20,000,000": (".png", lambda: png_of_size(1, 20_000_000), "inspect"),
    "PNG, 1 x 2,000,000": (".png", lambda: png_of_size(1, 2_000_000), "inspect"),
    "PNG, 13,370 x 13,370, 16 bits": (".png", lambda: png_of_size(13370, 13370, 16), "predict"),
    "the same, inspected": (".png", lambda: png_of_size(13370, 13370, 16), "inspect"),
    "PNG, 13,370 x 13,370, 1 bit, clear": (
        ".png",
        lambda: png_of_size(13370, 13370, 1, True),
        "predict",
    ),
    "PNG, 13,370 x 13,370, 8 bits": (".png", lambda: png_of_size(13370, 13370), "predict"),
    "WebP, 16,383 x 10,900": (
        ".webp",
        lambda: encode(Image.new("RGB", (16383, 10900), (99, 120, 130)), "WEBP", method=0),
        "predict",
    ),
    "WebP, 10,000 x 8,500": (
        ".webp",
        lambda: encode(Image.new("RGB", (10000, 8500), (99, 120, 130)), "WEBP", method=0),
        "predict",
    ),
    "JPEG, progressive, 13,000 x 9,000": (
        ".jpg",
        lambda: encode(Image.new("RGB", (13000, 9000), "grey"), "JPEG", progressive=True),
        "predict",
    ),
    "JPEG, 13,370 x 13,370": (
        ".jpg",
        lambda: encode(Image.new("RGB", (13370, 13370), "grey"), "JPEG"),
        "inspect",
    ),
}


def mutate(count: int) -> Iterator[tuple[str, bytes]]:
    """Pictures with bytes changed, removed or repeated."""
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[274], exif[271], exif[306] = 6, "DJI", "2026:05:06 07:08:09"
    exif.get_ifd(34853)[2] = (48.0, 51.0, 29.6)
    plain = {
        kind: encode(noise(200, 150), kind, exif=exif) for kind in ("JPEG", "PNG", "TIFF", "WEBP")
    }
    plain |= {kind: encode(noise(200, 150), kind) for kind in ("GIF", "BMP")}
    kinds = list(plain)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        content = bytearray(plain[kind])
        for _ in range(rng.integers(1, 8)):
            # Half of them in the head, where a picture says what it is.
            end = len(content) if rng.random() < 0.5 else min(len(content), 600)
            at = int(rng.integers(0, end))
            length = int(rng.integers(1, 40))
            way = rng.integers(0, 4)
            if way == 0:
                content[at] = int(rng.integers(0, 256))
            elif way == 1:
                content[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff"])
            elif way == 2:
                del content[at : at + length]
            else:
                content[at:at] = int(rng.integers(1, 200)) * content[at : at + length]
        yield f"{number:05}.{kind.lower().replace('jpeg', 'jpg')}", bytes(content)


def ask(python: str, code: str, path: Path, what: str = "") -> str:
    """Seconds, memory and answer of one process, as cells of a table."""
    command = [python, "-c", code, str(path), what]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, text=True, check=False
        )
        seconds, peak, said = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return f"more than {_SECONDS:.0f} | | no answer"
    except (IndexError, ValueError):
        return f" | | {(done.stderr.splitlines() or ['killed'])[-1][:90]}"
    return f"{seconds:.2f} | {peak:,.0f} | {said[:110]}"


def main(
    mutations: Annotated[int, typer.Option(help="Number of mutated pictures.")] = 2000,
    before: Annotated[str | None, typer.Option(help="Interpreter with another version.")] = None,
) -> None:
    """Tries them all."""
    pythons = {"now": sys.executable} | ({"before": before} if before else {})
    print("| picture | kB | version | seconds | peak MB | answer |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, make, what) in ATTACKS.items():
            path = Path(folder) / f"attack{suffix}"
            path.write_bytes(make())
            size = path.stat().st_size / 1000
            for version, python in pythons.items():
                row = ask(python, _RUN, path, what)
                print(f"| {name} | {size:,.0f} | {version} | {row} |", flush=True)
            path.unlink()
        mutated = Path(folder) / "mutated"
        mutated.mkdir()
        for name, content in mutate(mutations):
            (mutated / name).write_bytes(content)
        for version, python in pythons.items():
            row = ask(python, _MUTATED, mutated)
            print(f"| slowest of {mutations:,} mutated | | {version} | {row} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
