"""A publish document against its rules."""

import base64
import json
from typing import Any

import pytest

from registry.errors import Invalid
from registry.formats.npm import names, publication
from registry.formats.npm.publish_body import PublishBody
from tests.harness import npm_packages

NAME = "@acme/demo"
KEY = names.package_key(NAME)
FILE = f"{NAME}-1.0.0.tgz"
BODY = npm_packages.tarball(NAME, "1.0.0")


def read(document: dict[str, Any], attachment: str | None = FILE, name: str = NAME) -> publication.Publication:
    return publication.read(PublishBody(document, attachment), names.package_key(name))


def document(**changes: Any) -> dict[str, Any]:
    return {**npm_packages.publish_document(NAME, "1.0.0", BODY), **changes}


def changed(**manifest: Any) -> dict[str, Any]:
    found = document()
    found["versions"]["1.0.0"].update(manifest)
    return found


def test_a_sound_one():
    found = read(document(**{"dist-tags": {"beta": "1.0.0"}}))
    assert (found.version, found.filename, found.tags) == ("1.0.0", "demo-1.0.0.tgz", ("beta",))
    assert found.size_bytes == len(BODY)
    assert set(found.digests) == {"sha512", "sha1"}
    assert found.notes == {"_nodeVersion": "22.0.0", "_npmVersion": "11.0.0"}


def test_yarn_names_the_attachment_without_the_scope():
    found = document()
    found["_attachments"] = {"demo-1.0.0.tgz": found["_attachments"][FILE]}
    assert read(found, "demo-1.0.0.tgz").version == "1.0.0"


@pytest.mark.parametrize(
    "broken",
    [
        document(name="@acme/other"),
        document(_id="@acme/other"),
        document(access="everybody"),
        document(versions={}),
        document(versions=[]),
        document(versions={"1.0.0": document()["versions"]["1.0.0"], "1.0.1": document()["versions"]["1.0.0"]}),
        document(versions={"1.0.1": document()["versions"]["1.0.0"]}),
        document(versions={"1.0.0": "x"}),
        changed(name="@acme/other"),
        changed(version="1.0.1"),
        changed(version=None),
        changed(_id="@acme/other@1.0.0"),
        changed(dist=None),
        changed(dist={}),
        changed(dist={"integrity": "sha512-AAAA"}),
        changed(dist={"integrity": "md5-rL0Y20zC+Fzt72VPzMSk2A=="}),
        changed(dist={"shasum": "../../x"}),
        document(**{"dist-tags": {"latest": "2.0.0"}}),
        document(**{"dist-tags": {"1.0.0": "1.0.0"}}),
        document(**{"dist-tags": {"../x": "1.0.0"}}),
        document(**{"dist-tags": {f"t{number}": "1.0.0" for number in range(30)}}),
        document(**{"dist-tags": ["latest"]}),
        document(_attachments={}),
        document(_attachments={"../../evil.tgz": {"data": "", "length": 1}}),
        document(_attachments={FILE: {"data": "", "length": "1"}}),
        document(_attachments={FILE: {"data": "", "length": -1}}),
        document(_attachments={FILE: {"data": ""}}),
        document(_attachments={FILE: "x"}),
        document(_attachments={FILE: {"data": "", "length": 1}, "other.sigstore": {"data": "{}"}}),
        document(_attachments={FILE: {"data": "", "length": 1}, f"{NAME}-1.0.0.sigstore": {"data": 1}}),
    ],
)
def test_what_breaks_a_rule(broken: dict[str, Any]):
    attachments = broken["_attachments"]
    with pytest.raises(Invalid):
        read(broken, next(iter(attachments), None))


def test_the_address_decides_which_package_it_is():
    with pytest.raises(Invalid, match="address"):
        read(document(), name="@acme/alpha")


def statement(**changes: Any) -> str:
    digests = npm_packages.integrity(BODY)
    sha512 = base64.b64decode(digests.integrity.removeprefix("sha512-")).hex()
    said = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "pkg:npm/%40acme/demo@1.0.0", "digest": {"sha512": sha512}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        **changes,
    }
    payload = base64.b64encode(json.dumps(said).encode()).decode()
    return json.dumps({"mediaType": "application/vnd.dev.sigstore.bundle+json", "dsseEnvelope": {"payload": payload}})


def test_provenance_is_about_these_bytes():
    wanted = read(document())
    found = publication.read_provenance(statement(), wanted, wanted.digests)
    assert found.predicate_type == "https://slsa.dev/provenance/v1"
    for text in (
        statement(subject=[]),
        statement(subject=[{"name": "pkg:npm/%40acme/demo@1.0.0", "digest": {"sha512": "00"}}]),
        statement(subject=[{"name": "pkg:npm/%40acme/other@1.0.0", "digest": {"sha512": wanted.digests["sha512"]}}]),
        statement(predicateType=None),
        "{}",
        "x",
        "[" * 100_000,
        json.dumps({"dsseEnvelope": {"payload": "!"}}),
    ):
        with pytest.raises(Invalid):
            publication.read_provenance(text, wanted, wanted.digests)


def test_revisions_change_with_each_change():
    revisions = {publication.revision_text(KEY, count) for count in range(100)}
    assert len(revisions) == 100
    assert publication.revision_text(KEY, 7).startswith("7-")
