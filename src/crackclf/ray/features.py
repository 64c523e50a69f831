"""The features of a frozen base, computed on a Ray cluster."""

import os
import pickle
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from crackclf.cores import cores
from crackclf.errors import UserError
from crackclf.features.extract import Compute, Job
from crackclf.ray.cluster import map_blocks, pyarrow

_JOBS = 8  # To a block, which is what is lost when a worker dies.


def compute_on_cluster(
    jobs: Sequence[Job], compute: Compute, address: str | None = None
) -> Generator[tuple[Job, np.ndarray]]:
    """Does the jobs of `cache_features` on a Ray cluster.

    Args:
        jobs: what there is to do; their files must be at the same place on all machines.
        compute: from a job to its features; can be pickled.
        address: of a running cluster, HOST:PORT; None for the one in `RAY_ADDRESS`, or else for
            all cores of this machine.

    Yields:
        Each job, in no certain order, and its features, float16 of the shape that `compute` gives.

    Raises:
        UserError: when the cluster cannot be used, or leaves jobs undone.
    """
    table = pyarrow.table(
        {
            "number": range(len(jobs)),
            "files": [[os.fsencode(file) for file in job.files] for job in jobs],
            "digests": [job.digests for job in jobs],
            "views": [job.views for job in jobs],
        }
    )
    blocks = [table.slice(start, _JOBS) for start in range(0, len(jobs), _JOBS)]
    left = set(range(len(jobs)))
    for rows in map_blocks(partial(_Worker, pickle.dumps(compute)), blocks, address):
        for row in rows.to_pylist():
            features = np.frombuffer(row["features"], np.float16).reshape(row["shape"])
            yield jobs[row["number"]], features
            left.discard(row["number"])
    if left:
        raise UserError(
            f"the cluster left {len(left)} of {len(jobs)} blocks of features undone. Run the same "
            "command again to go on."
        )


class _Worker:
    """What a process of the cluster does."""

    def __init__(self, compute: bytes):
        # A worker's share of the machine is some cores and no graphics card, and TensorFlow would
        # take all of both. It reads these when it is first used: when `compute` is unpickled.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ[name] = str(cores())
        self._compute: Compute = pickle.loads(compute)  # noqa: S301 - Ray trusts pickles, too.

    def __call__(self, block: pyarrow.Table) -> Iterator[pyarrow.Table]:
        found = []
        for row in block.to_pylist():
            files = tuple(map(os.fsdecode, row["files"]))
            for file in files:
                if not Path(file).exists():
                    raise UserError(
                        f"{file}: is not there. The data folder must be on a file system that all "
                        "machines see at the same place."
                    )
            found.append(self._compute(Job(files, tuple(row["digests"]), tuple(row["views"]))))
        columns = {
            "number": block["number"],
            "features": [features.astype(np.float16).tobytes() for features in found],
            "shape": [features.shape for features in found],
        }
        yield pyarrow.table(columns)
