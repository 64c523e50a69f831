"""A Ray cluster, the machines of others or this one's cores, that maps blocks of a table."""

# pyright: reportMissingImports=false
import contextlib
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cached_property
from typing import Any

from crackclf.data.cores import cores
from crackclf.errors import UserError

# Before Ray is imported, which reads them once. It would report its use, and print what it notes
# of its own workings among our lines.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
try:
    import pyarrow
    import pyarrow.compute
    import pyarrow.fs
    import pyarrow.parquet
    import ray
    import ray.data
    import ray.exceptions
except ImportError as error:
    raise UserError(
        f"Ray Data is needed here ({error}): pip install 'crackclf[ray]', on every machine of the "
        "cluster"
    ) from None

__all__ = ["check_address", "connected", "map_blocks", "pyarrow"]

Function = Callable[[pyarrow.Table], Iterator[pyarrow.Table]]
_TRIES = 3
_PATIENCE = 5.0  # Seconds in which a head node must answer.
# How gRPC, and so Ray, begins to talk: HTTP/2's preface, and a frame of settings, of which none.
_SETTINGS = b"\x04"
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)


@ray.remote(num_cpus=0)
class _Tally:
    """Knows how many blocks each worker has begun since it last finished one."""

    def __init__(self):
        self._begun = Counter()

    def begin(self, worker: str) -> int:
        self._begun[worker] += 1
        return self._begun[worker]

    def finish(self, worker: str) -> None:
        self._begun[worker] = 0


class _Worker:
    """A process of the cluster that is made ready once and then maps block after block."""

    def __init__(self, prepare: Callable[[], Function], tally: Any):
        self._prepare, self._tally = prepare, tally
        # Its share of the machine is some cores and no graphics card, of which TensorFlow would
        # take all there are.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ[name] = str(cores())

    # With the first block, not before: of what is raised in `__init__` Ray passes on only text.
    @cached_property
    def _map(self) -> Function:
        return self._prepare()

    def __call__(self, block: pyarrow.Table) -> Iterator[pyarrow.Table]:
        worker = ray.get_runtime_context().get_actor_id()
        # Ray starts a worker that dies over a block anew, and would for ever.
        begun: Any = ray.get(self._tally.begin.remote(worker))
        if begun > _TRIES:
            raise UserError(
                f"{_TRIES} workers died over the same block, which begins with "
                f"{block[0][0].as_py()}. Is there too little memory?"
            )
        yield from self._map(block)
        self._tally.finish.remote(worker)


def map_blocks(
    prepare: Callable[[], Function], blocks: Sequence[pyarrow.Table], address: str | None = None
) -> Generator[pyarrow.Table]:
    """Maps blocks of rows on a cluster, each as a whole, by one process per CPU.

    A block whose process or machine dies is mapped anew, at most three times in all.

    Args:
        prepare: called once in each process, gives the function from a block to tables; both
            are pickled.
        blocks: tables of any columns.
        address: of a running cluster, HOST:PORT, as `ray start --head` prints it; this process must
            be on one of its machines. When None, that in `RAY_ADDRESS`, or else all cores of this
            machine. A cluster to which this process is connected already is used as it is.

    Yields:
        The tables, as they come.

    Raises:
        UserError: when the cluster cannot be reached, or a process raises one.
    """
    with contextlib.redirect_stdout(sys.stderr), connected(address):
        cpus = int(ray.cluster_resources().get("CPU", 1))
        actors = ray.data.ActorPoolStrategy(size=max(1, min(cpus, len(blocks))))
        rows = ray.data.from_arrow(list(blocks)).map_batches(
            _Worker,
            fn_constructor_args=(prepare, _Tally.remote()),
            batch_size=None,
            batch_format="pyarrow",
            compute=actors,
            num_cpus=1,
        )
        rows.context.enable_progress_bars = False
        rows.context.print_on_execution_start = False
        try:
            yield from rows.iter_batches(batch_size=None, batch_format="pyarrow")
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            # Behind what a cause says stand Ray's hints, before what it was a long tale.
            known = isinstance(cause, UserError)
            told = str(cause).splitlines()[0] if known else str(error).splitlines()[-1]
            raise UserError(f"on a machine of the cluster: {told}") from error


def check_address(address: str | None) -> None:
    """Finds out within seconds what Ray itself would try for minutes.

    Args:
        address: see `map_blocks`.

    Raises:
        UserError: when no cluster can be there.
    """
    if not address or address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UserError(
            "expected a Ray cluster's address as HOST:PORT, e.g. 10.0.0.1:6379, as `ray start "
            f"--head` prints it. Received: {address}."
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE) as connection:
            connection.sendall(_GREETING)
            if connection.recv(4, socket.MSG_WAITALL)[3:] != _SETTINGS:
                raise OSError("what listens there is something else")
    except (OSError, OverflowError) as error:
        raise UserError(
            f"{address}: no Ray cluster answers there ({error}). Start one with `ray start "
            "--head`, and give the address that it prints."
        ) from None


@contextlib.contextmanager
def connected(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Connects this process to a cluster, for one or several calls of `map_blocks`.

    Args:
        address: see `map_blocks`.
        cpus: of a cluster on this machine; by default all.

    Raises:
        UserError: when the cluster cannot be reached or started.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    check_address(address)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address, **quiet)
        else:
            with _loopback():
                ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
    # Ray raises nearly anything when it does not come up.
    except Exception as error:
        if not address:
            raise UserError(f"Ray could not be started on this machine: {error}") from error
        raise UserError(
            f"{address}: Ray cannot use this cluster: {error}. All machines need the same versions "
            "of Ray and Python; a cluster that asks for a token needs RAY_AUTH_MODE=token here."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Has a cluster of this machine's cores listen on 127.0.0.1 only, as Ray does on macOS."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
