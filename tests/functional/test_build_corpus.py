"""Some documents of the corpus (tests/unit/builds/corpus), built in the real sandbox with the machine's own tools."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from registry.formats import all_formats
from tests.build_bench import MISSING_SANDBOX, build, work_directory

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)

CORPUS = Path(__file__).resolve().parents[1] / "unit" / "builds" / "corpus"
BUILT = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.long] if path.stem == "run-maven" else [])
    for path in sorted(CORPUS.glob("*.json"))
    if "run" in json.loads(path.read_text())
]


@pytest.fixture(scope="module")
def executor() -> Iterator[ProcessExecutor]:
    paths = tuple(path for known in all_formats().values() for path in known.build_paths())
    with work_directory() as place:
        yield ProcessExecutor(ProcessSettings(place, readonly_paths=paths))


@pytest.mark.parametrize("path", BUILT)
def test_it_is_built_without_a_network(executor: ProcessExecutor, path: Path):
    expected = json.loads(path.read_text())["run"]
    missing = [name for name in expected["needs"] if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    outcome, log = build(executor, path.with_suffix(".yml").read_text())
    assert outcome.status == expected["status"], log.text
    printed = [line for line in log.text.splitlines() if not line.startswith("[Container]")]
    for words in expected["prints"]:
        assert any(words in line for line in printed), words
    for words in expected.get("never", []):
        assert words not in printed
    assert outcome.exported == expected["exported"]
    files = set()
    for body in log.artifacts.values():
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            files |= set(archive.namelist())
    assert set(expected["files"]) <= files
