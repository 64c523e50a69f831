"""The web page under twenty people at once, with patches, whole photos and bad pictures.

    python benchmarks/page.py [--people 20] [--requests 500]

Each of the people uploads a picture, asks about it, waits for the answer and goes on. Of ten
pictures six are patches of 227 x 227 pixels, two photos of 2,000 x 1,500, and two bad: no image at
all, and a JPEG of 100,000 segments of EXIF. A good picture must get a verdict, a bad one an
explanation. Memory is that of the server's process, after a tenth of the requests and after all.
"""

import json
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer
from hostile import encode, jpeg_of_segments, noise
from PIL import Image

_SERVER = """
import sys
from crackclf import load_model
from crackclf.app.server import serving
with serving(load_model(), 0) as address:
    print(address, flush=True)
    sys.stdin.read()
"""


def ask(address: str, name: str, content: bytes) -> tuple[str, float]:
    """What the page says about a picture, and the seconds from upload to answer."""
    start, session = time.perf_counter(), uuid.uuid4().hex
    with httpx.Client(base_url=address, timeout=600, trust_env=False) as web:
        sent = web.post("/gradio_api/upload", files={"files": (name, content)})
        file = {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}
        body = {"data": [[file], 0], "fn_index": 0, "session_hash": session}
        web.post("/gradio_api/queue/join", json=body).raise_for_status()
        with web.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as messages:
            for line in messages.iter_lines():
                if "process_completed" in line:
                    output = json.loads(line.removeprefix("data: "))["output"]
                    said = output.get("error") or output["data"][0]
                    return str(said), time.perf_counter() - start
    raise AssertionError("no answer")


def memory(process: int) -> float:
    """Megabytes that a process holds."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main(
    people: Annotated[int, typer.Option(help="At once.")] = 20,
    requests: Annotated[int, typer.Option(help="In all.")] = 500,
) -> None:
    """Asks, and counts."""
    rng = np.random.default_rng(0)
    patches = [encode(noise(227, 227, seed), "JPEG") for seed in range(6)]
    photos = [
        encode(Image.fromarray(rng.integers(90, 160, (1500, 2000, 3), np.uint8)), "JPEG")
        for _ in range(2)
    ]
    bad = [b"no image", jpeg_of_segments()]
    pictures = [(x, True) for x in (*patches, *photos)] + [(x, False) for x in bad]
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    seconds: dict[str, list[float]] = {"good": [], "bad": []}
    wrong: list[str] = []
    held: list[float] = []
    counted = threading.Lock()

    def use(number: int) -> None:
        content, is_good = pictures[number % len(pictures)]
        said, took = ask(address, f"{number}.jpg", content)
        with counted:
            seconds["good" if is_good else "bad"].append(took)
            if ("No answer" in said) == is_good:
                wrong.append(said[:200])
            done = len(seconds["good"]) + len(seconds["bad"])
            if done in (requests // 10, requests):
                held.append(memory(server.pid))

    with server, ThreadPoolExecutor(people) as pool:
        list(pool.map(use, range(requests)))
        server.communicate("")
    print("| pictures | number | answered wrongly | median s | slowest s |\n|---|---|---|---|---|")
    for kind, took in seconds.items():
        print(f"| {kind} | {len(took)} | {len(wrong)} | {np.median(took):.2f} | {max(took):.2f} |")
    print(
        f"\nmemory after {requests // 10} requests {held[0]:,.0f} MB, after all {held[1]:,.0f} MB"
    )
    for said in wrong[:5]:
        print(said)


if __name__ == "__main__":
    typer.run(main)
