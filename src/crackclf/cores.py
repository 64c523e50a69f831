"""How much of a machine a process may take."""

import os


def cores() -> int:
    """Cores that this process may compute on.

    Those that `OMP_NUM_THREADS` grants, which Ray and Spark set in each of the processes that they
    start side by side; without it all of the machine.
    """
    granted = os.environ.get("OMP_NUM_THREADS", "")
    return int(granted) if granted.isdigit() and int(granted) else os.cpu_count() or 1
