"""The real clients, each run with a home of its own and nothing of this machine's configuration."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@functools.cache
def _fresh_venv() -> Path:
    """An environment as ``python -m venv`` makes it, to be copied: making one takes seconds.

    Its python and ``python -m pip`` work wherever it is copied to; only the scripts in ``bin`` name its first place.
    """
    folder = Path(tempfile.mkdtemp(prefix="entrepot-venv-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for script in (folder / "bin").glob("pip*"):
        script.unlink()
    return folder


@dataclass
class Done:
    """How a client ended."""

    returncode: int
    output: str

    def ok(self) -> "Done":
        assert self.returncode == 0, self.output
        return self


class Clients:
    """pip, uv, twine and poetry in a clean home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)

    def environment(self, **more: str) -> dict[str, str]:
        """What the clients see: a machine's own indexes, caches and certificates must not decide a test."""
        kept = {key: value for key, value in os.environ.items() if key in {"LANG", "LC_ALL", "TMPDIR"}}
        return {
            **kept,
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "UV_NO_CONFIG": "1",
            "UV_NO_CACHE": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **more,
        }

    def run(self, *command: str, cwd: Path | None = None, stdin: str | None = None, **more: str) -> Done:
        done = subprocess.run(
            command,
            cwd=cwd or self.home,
            env=self.environment(**more),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def twine(self, url: str, token: str, *files: Path, verbose: bool = False) -> Done:
        options = ["--non-interactive", "--disable-progress-bar", *(["--verbose"] if verbose else [])]
        return self.run(
            str(BIN / "twine"), "upload", *options, "--repository-url", url, *map(str, files),
            TWINE_USERNAME="__token__", TWINE_PASSWORD=token,
        )  # fmt: skip

    def uv_publish(self, url: str, token: str, *files: Path) -> Done:
        return self.run(
            str(BIN / "uv"), "publish", "--publish-url", url, "--username", "__token__", "--password", token,
            *map(str, files),
        )  # fmt: skip

    def shim(self, target: Path) -> Path:
        """A python that finds what was installed with ``--target``."""
        python = target / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={target} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        return python

    def venv(self, name: str = "venv") -> Path:
        """A virtual environment of its own; returns its python."""
        folder = self.home / name
        shutil.copytree(_fresh_venv(), folder, symlinks=True)
        return folder / "bin" / "python"

    def pip_install(self, python: Path, index: str, *arguments: str, **more: str) -> Done:
        return self.run(str(python), "-m", "pip", "install", "--no-cache-dir", "--index-url", index, *arguments, **more)

    def uv_install(self, python: Path, index: str, *arguments: str) -> Done:
        return self.run(
            str(BIN / "uv"), "pip", "install", "--python", str(python), "--default-index", index, *arguments
        )
