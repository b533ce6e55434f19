"""The first process of a build's container: starts the runner, buries whom nobody waits for, ends with the runner.

Run as a file by the image's interpreter, standard library only. Without it the runner would be process 1 itself, which
no command can end, and every daemon that lost its parent would stay a zombie until the limit of processes is met.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_DUMPABLE = 4
RUNNER = "/entrepot/lib/inside.py"


def main() -> int:
    """Wait until the runner has ended; its status. With this process the kernel ends everything in the container."""
    child = os.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-I", "-S", RUNNER])  # noqa: S606 - no shell
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    for descriptor in (0, 1):
        os.close(descriptor)  # the pipes are the runner's: their ends must be seen
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
