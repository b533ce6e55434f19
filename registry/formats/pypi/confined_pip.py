"""pip, with requirements refused that say themselves where they lie (``name @ URL``), of whatever it installs.

Run by its path, by the interpreter that pip shall work for, with that folder's pip: ``python -I confined_pip.py FOLDER
ARGUMENT…``. Nothing but pip itself is taken from FOLDER. pip has no option for this, and what it finds at such a place it
builds before anybody can look. A pip whose requirements do not come this way is not run.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

TOLD = "says itself where it lies; requirements are taken from the repository alone"


class _FromFolder:
    """Finds pip in one folder, and nothing else there."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(self, name: str, _path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """As ``importlib.abc.MetaPathFinder``."""
        return PathFinder.find_spec(name, [self._folder], target) if name == "pip" else None


def confine() -> None:
    """Let pip refuse such requirements. Raises SystemExit for a pip in which that cannot be had."""
    try:
        # pip's own modules, which it promises to nobody: hence the look at who uses the function in the end.
        from pip._internal.exceptions import InstallationError
        from pip._internal.req import constructors

        made: Any = constructors.install_req_from_req_string

        def refusing(req_string: str, comes_from: Any = None, *rest: Any, **more: Any) -> Any:
            found = made(req_string, comes_from, *rest, **more)
            if comes_from is not None and found.link is not None:
                raise InstallationError(f"{req_string!s:.300} of {comes_from} {TOLD}")
            return found

        constructors.install_req_from_req_string = refusing
        from pip._internal.cli import req_command

        is_used = getattr(req_command, made.__name__) is refusing
    except (ImportError, AttributeError) as error:
        raise SystemExit(f"this pip cannot be kept to one repository: {error}") from error
    if not is_used:
        raise SystemExit("this pip cannot be kept to one repository: it was loaded before")


if __name__ == "__main__":
    sys.meta_path.insert(0, _FromFolder(sys.argv[1]))
    confine()
    sys.argv = ["pip", *sys.argv[2:]]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
