"""What is taken for an attestation of a file, and what is not."""

import copy
import json
from typing import Any

import pytest

from registry.errors import Invalid
from registry.format import BadIndex
from registry.formats.pypi.attestations import check_provenance, provenance
from tests.harness import attest, packages

FILENAME, BODY = packages.wheel("attested", "1.0")
SHA256 = packages.sha256(BODY)
GOOD = attest.attestation(attest.statement(FILENAME, BODY))


def read(attestations: Any) -> dict[str, Any]:
    text = attestations if isinstance(attestations, str) else json.dumps(attestations)
    return json.loads(provenance(text, FILENAME, SHA256, "alice"))


def test_everything_that_was_sent_is_in_the_provenance_and_who_sent_it():
    assert read([GOOD, GOOD]) == {
        "version": 1,
        "attestation_bundles": [
            {"publisher": {"kind": "Entrepot", "claims": {"account": "alice"}}, "attestations": [GOOD, GOOD]}
        ],
    }


def test_a_name_that_means_the_same_file_is_the_same():
    for name in ("Attested-1.0-py3-none-any.whl", "attested-1.0.0-py3-none-any.whl"):
        assert read([attest.attestation(attest.statement(name, BODY))])
    for name in ("attested-1.0-py2-none-any.whl", "attested-1.0-1-py3-none-any.whl", "attested-1.0.tar.gz"):
        with pytest.raises(Invalid, match="is about"):
            read([attest.attestation(attest.statement(name, BODY))])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"subject": [{"name": "other-1.0-py3-none-any.whl", "digest": {"sha256": SHA256}}]}, "is about 'other-1.0"),
        ({"subject": [{"name": FILENAME, "digest": {"sha256": "0" * 64}}]}, "has " + SHA256),
        ({"subject": [{"name": FILENAME, "digest": {"sha512": "0" * 128}}]}, "exactly one file"),
        ({"subject": [{"name": "../x", "digest": {"sha256": SHA256}}]}, "file name"),
        ({"subject": []}, "exactly one file"),
        ({"subject": [{"name": FILENAME, "digest": {"sha256": SHA256}}] * 2}, "exactly one file"),
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "in-toto statement of version 1"),
        ({"predicateType": None}, "predicateType"),
    ],
)
def test_a_statement_about_something_else_is_refused(change: dict[str, Any], why: str):
    with pytest.raises(Invalid, match=why.replace("'", ".")):
        read([attest.attestation(attest.statement(FILENAME, BODY, **change))])


def changed(*path: str, value: Any) -> list[dict[str, Any]]:
    other = copy.deepcopy(GOOD)
    place = other
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return [other]


OTHER = attest.attestation(attest.statement(FILENAME, BODY, predicate={"x": 1}))


@pytest.mark.parametrize(
    ("attestations", "why"),
    [
        ("{", "not JSON"),
        ("[NaN]", "not JSON"),
        ('[{"version": 1, "version": 1}]', "says something twice"),
        ("[" * 100_000, "not JSON"),
        ({}, "not a list"),
        ([], "not a list"),
        ([GOOD] * 17, "not a list"),
        (["x"], "version 1"),
        (changed("version", value=2), "version 1"),
        (changed("verification_material", "transparency_entries", value=[]), "transparency_entries"),
        (changed("verification_material", "transparency_entries", value=[1]), "transparency entry"),
        (changed("verification_material", "certificate", value="eA=="), "certificate"),
        (changed("verification_material", "certificate", value="?"), "base64"),
        (changed("envelope", "statement", value=""), "base64"),
        (changed("envelope", "signature", value="eA=="), "signature does not belong"),
        (changed("envelope", "signature", value=OTHER["envelope"]["signature"]), "signature does not belong"),
    ],
)
def test_what_is_no_attestation_is_refused(attestations: Any, why: str):
    with pytest.raises(Invalid, match=why):
        read(attestations)


def test_an_upstreams_provenance_must_be_one_and_about_the_file():
    sound = attest.provenance(FILENAME, BODY)
    check_provenance(sound, FILENAME, SHA256)
    check_provenance(sound, FILENAME, None)
    for body in (
        b"[]",
        b"{}",
        b"\xff",
        b'{"version":1,"attestation_bundles":[{}]}',
        sound.replace(b'"version": 1', b'"version": 2', 1),
    ):
        with pytest.raises(BadIndex):
            check_provenance(body, FILENAME, SHA256)
    with pytest.raises(BadIndex, match="digest"):
        check_provenance(sound, FILENAME, "0" * 64)
