"""Approvals that leave out who published or started: refused or warned of where that is nobody."""

import pytest

from hooks.pipelines.declaration import parse_documents
from hooks.pipelines.providers import PROVIDERS
from registry.errors import InvalidDocument

PIPELINE = """name: release
%s
stages:
- name: Source
  actions:
%s
- name: Gate
  actions:
  - name: Ask
    actionTypeId: {category: Approval, owner: AWS, provider: Manual, version: "1"}
    configuration: {%s}
"""
GIT = """  - name: Commit
    actionTypeId: {category: Source, owner: Entrepot, provider: Git, version: "1"}
    configuration: {Url: "https://forge.example/team/app.git", BranchName: main, Repository: dev}
    outputArtifacts: [{name: Code}]"""
PACKAGE = """  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
    configuration: {Repository: dev, Format: fmt, Name: acme}
    outputArtifacts: [{name: App}]"""
OBJECT = """  - name: Object
    actionTypeId: {category: Source, owner: AWS, provider: S3, version: "1"}
    configuration: {S3Bucket: drops, S3ObjectKey: app.zip}
    outputArtifacts: [{name: Zip}]"""
NIGHTLY = 'triggers: [{providerType: Schedule, scheduleConfiguration: {expression: "0 2 * * *"}}]'


def warnings_of(sources: str, configuration: str, head: str = "") -> tuple[str, ...]:
    (declared,) = parse_documents(PIPELINE % (head, sources, configuration), PROVIDERS)
    return declared.warnings


def test_without_a_source_that_names_publishers_nobody_can_be_left_out() -> None:
    with pytest.raises(
        InvalidDocument, match=r"line 14: .*Gate/Ask: configuration NotByPublisher: commits have no publ"
    ):
        warnings_of(GIT, 'NotByPublisher: "true"')
    assert warnings_of(GIT, 'NotByPublisher: "false"') == ()
    for sources in (PACKAGE, OBJECT, f"{PACKAGE}\n{GIT}"):
        assert warnings_of(sources, 'NotByPublisher: "true"') == ()


@pytest.mark.parametrize(
    ("sources", "head", "causes"),
    [
        (GIT, "", "pushes"),
        (PACKAGE, NIGHTLY, "schedules"),
        (f"{PACKAGE}\n{GIT}", NIGHTLY, "pushes and schedules"),
        (PACKAGE, "", None),
        (OBJECT, "", None),
    ],
)
def test_what_no_person_starts_is_warned_of(sources: str, head: str, causes: str | None) -> None:
    found = warnings_of(sources, 'NotByStarter: "true"', head)
    assert [f"executions that {causes} start were started by no person" in each for each in found] == [True] * bool(
        causes
    )
    assert warnings_of(sources, 'NotByStarter: "false"', head) == ()
