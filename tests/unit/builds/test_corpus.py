"""Documents in the manner of those that are in the world, each with its verdict beside it (``corpus/NAME.json``).

A verdict: ``faults`` and ``warnings`` in full, ``phases`` with their numbers of commands (null when there are faults),
``reads`` where a field is to be read in a certain way, ``run`` for those that are also built
(``tests/functional/test_build_corpus.py``).
"""

import dataclasses
import json
from pathlib import Path

import pytest

from hooks.builds.spec import parse_buildspec
from registry.errors import InvalidDocument

CORPUS = Path(__file__).parent / "corpus"
DOCUMENTS = sorted(CORPUS.glob("*.yml"))


def test_every_document_has_a_verdict_and_the_other_way_round():
    assert len(DOCUMENTS) >= 40
    assert {path.stem for path in DOCUMENTS} == {path.stem for path in CORPUS.glob("*.json")}


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.stem for path in DOCUMENTS])
def test_the_verdict(path: Path):
    verdict = json.loads(path.with_suffix(".json").read_text())
    text = path.read_bytes().decode()  # as it is: line ends and marks count
    if verdict["faults"]:
        with pytest.raises(InvalidDocument) as caught:
            parse_buildspec(text)
        assert caught.value.faults == verdict["faults"]
        return
    spec = parse_buildspec(text)
    commands = {name: len(phase.commands) + len(phase.finally_commands) for name, phase in spec.phases.items()}
    assert (list(spec.warnings), commands) == (verdict["warnings"], verdict["phases"])
    read = json.loads(json.dumps(dataclasses.asdict(spec)))
    for name, expected in verdict.get("reads", {}).items():
        assert read[name] == expected, name
