"""Runs inside a sandbox: ``codebuild-tests-run`` and ``codebuild-glob-search``, for the builds of a fanout.

The CodeBuild user guide's "Run tests in parallel in batch builds". Standard library only, and all in one file, because it
stands alone there. Each build of a fanout runs the same command over its own share of the files; alone, over all.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

FILES = "CODEBUILD_CURRENT_SHARD_FILES"
_INDEX, _COUNT = "ENTREPOT_SHARD_INDEX", "ENTREPOT_SHARD_COUNT"
_USAGE = 2


def equal_distribution(files: Sequence[str], index: int, count: int) -> list[str]:
    """The sorted names, cut into contiguous shares that differ by one file at the most; that of ``index`` (from 0)."""
    names = sorted(files)
    return names[len(names) * index // count : len(names) * (index + 1) // count]


def stability(files: Sequence[str], index: int, count: int) -> list[str]:
    """A share that a file keeps whichever other files there are; few change it when ``count`` does."""

    def weight(name: str, shard: int) -> bytes:
        return hashlib.sha256(f"{shard}\0{name}".encode(errors="surrogateescape")).digest()

    return [name for name in sorted(files) if max(range(count), key=lambda shard: weight(name, shard)) == index]


STRATEGIES: dict[str, Callable[[Sequence[str], int, int], list[str]]] = {
    "equal-distribution": equal_distribution,
    "stability": stability,
}


def tests_run(arguments: Sequence[str]) -> int:
    """Run the test command over this build's share of the files that the search prints; its exit status.

    The files are in ``CODEBUILD_CURRENT_SHARD_FILES``, one a line; a command that does not name the variable gets them as
    its last arguments. Nothing is run where the share is empty.
    """
    parser = argparse.ArgumentParser("codebuild-tests-run")
    parser.add_argument("--test-command", required=True)
    parser.add_argument("--files-search", required=True)
    parser.add_argument("--sharding-strategy", choices=sorted(STRATEGIES), default="equal-distribution")
    wanted = parser.parse_args(arguments)
    search = subprocess.run(["/bin/sh", "-c", wanted.files_search], stdout=subprocess.PIPE, text=True, check=False)
    if search.returncode != 0:
        sys.stderr.write(f"codebuild-tests-run: the search for files ended with {search.returncode}\n")
        return search.returncode
    found = list(dict.fromkeys(line for line in search.stdout.splitlines() if line))
    if not found:
        sys.stderr.write("codebuild-tests-run: the search found no files\n")
        return 1
    index, count = int(os.environ.get(_INDEX, "0")), int(os.environ.get(_COUNT, "1"))
    share = STRATEGIES[wanted.sharding_strategy](found, index, count)
    sys.stderr.write(f"codebuild-tests-run: shard {index + 1} of {count} has {len(share)} of {len(found)} files\n")
    sys.stderr.flush()
    if not share:
        return 0
    command = wanted.test_command if FILES in wanted.test_command else f'{wanted.test_command} "$@"'
    environment = {**os.environ, FILES: "\n".join(share)}
    return subprocess.run(["/bin/sh", "-c", command, "sh", *share], env=environment, check=False).returncode


def glob_search(patterns: Sequence[str]) -> int:
    """Print the files that match, each once and sorted; ``**`` is any number of directories. 1 where there are none."""
    if not patterns:
        sys.stderr.write("usage: codebuild-glob-search PATTERN…\n")
        return _USAGE
    matching = (name for pattern in patterns for name in glob.glob(pattern, recursive=True))  # noqa: PTH207  (absolute too)
    found = {name for name in matching if Path(name).is_file()}
    for name in sorted(found):
        sys.stdout.write(f"{name}\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit((tests_run if sys.argv[1] == "run" else glob_search)(sys.argv[2:]))
