"""The container image's recipe, as far as it can be checked without building it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

from config.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions(kind: str) -> list[str]:
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"{kind} ")]


def copied() -> set[str]:
    return {source for line in instructions("COPY") for source in shlex.split(line)[:-1]}


def test_what_is_copied_is_there_and_is_sent_to_the_builder():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for source in copied():
        assert (ROOT / source).exists(), source
        sent = True
        for rule in rules:
            if fnmatch(source, rule.removeprefix("!").removeprefix("**/")):
                sent = rule.startswith("!")
        assert sent, f"{source} is ignored"


def test_nothing_else_is_sent():
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied()


def test_its_commands_exist():
    assert set(PROJECT["project"]["scripts"]) == {"entrepot"}
    (entry,) = instructions("ENTRYPOINT")
    assert json.loads(entry) == ["entrepot"]
    (default,) = instructions("CMD")
    (check,) = instructions("HEALTHCHECK")
    program, asked = json.loads(check.partition("CMD ")[2])
    assert program == "entrepot"
    named = re.findall(r"[a-z]+", re.search(r"three commands: (.*?)\.", (ROOT / "Dockerfile").read_text())[1])
    assert {*json.loads(default), asked, *named} - {"default"} <= set(COMMANDS)


def test_the_program_can_be_made_of_what_is_copied(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= tops
    assert (source / "requirements.lock").read_text().count("hatchling==") == 1, "it is built without a network"
