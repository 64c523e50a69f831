"""Blocks of a table, mapped on a Ray cluster or on all cores of this machine."""

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

from crackclf.errors import UserError
from crackclf.extras import need

# Ray reads these once, when it is imported. Without them it reports its use over the network and
# prints its internal notes among our lines.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
need("ray.data", "ray")

import pyarrow  # noqa: E402
import pyarrow.compute  # noqa: E402
import pyarrow.fs  # noqa: E402
import pyarrow.parquet  # noqa: E402
import ray  # noqa: E402
import ray.data  # noqa: E402
import ray.exceptions  # noqa: E402

__all__ = ["check_address", "connected", "map_blocks", "pyarrow"]

Function = Callable[[pyarrow.Table], Iterator[pyarrow.Table]]
_TRIES = 3
_PATIENCE = 5.0  # Seconds in which a head node must answer.
# How gRPC, and so Ray, opens a connection: HTTP/2's preface and an empty frame of settings.
_SETTINGS = b"\x04"
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + _SETTINGS + bytes(5)


@ray.remote(num_cpus=0)
class _Tally:
    """Counts the blocks that each worker has begun since it last finished one."""

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

    # Only with the first block: Ray passes on errors of `__init__` as text.
    @cached_property
    def _map(self) -> Function:
        return self._prepare()

    def __call__(self, block: pyarrow.Table) -> Iterator[pyarrow.Table]:
        worker = ray.get_runtime_context().get_actor_id()
        # Ray restarts a worker that dies over a block, without end.
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

    A block whose process or machine dies is mapped again, at most three times in all.

    Args:
        prepare: called once in each process; gives the function from a block to tables. Both
            are pickled.
        blocks: tables of any columns.
        address: of a running cluster, HOST:PORT, as `ray start --head` prints it; this process must
            be on one of its machines. When None, the one in `RAY_ADDRESS`, or else all cores of
            this machine. A cluster that this process is already connected to is used as it is.

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
            # Ray appends hints to a cause, and puts a long traceback before any other error.
            known = isinstance(cause, UserError)
            told = str(cause).splitlines()[0] if known else str(error).splitlines()[-1]
            raise UserError(f"on a machine of the cluster: {told}") from error


def check_address(address: str | None) -> None:
    """Finds out within seconds whether a cluster answers; Ray itself would try for minutes.

    Args:
        address: HOST:PORT, or None.

    Raises:
        UserError: when none answers.
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
        address: of a running cluster, HOST:PORT; None for the cores of this machine.
        cpus: of a cluster on this machine; all by default.

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
    # No public name for it: pyproject.toml bounds Ray, and a test fails when it moves.
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
