"""Triggers of git sources: CodePipeline's filters and globs, as values."""

from __future__ import annotations

import pytest

from hooks.builds.push_filters import Happening
from hooks.pipelines.actions import PROVIDERS
from hooks.pipelines.declaration import parse_documents
from hooks.pipelines.definition import from_model, to_model
from hooks.pipelines.sources.globs import is_covered
from hooks.pipelines.sources.triggers import Branches, starts
from registry.errors import InvalidDocument

DOCUMENT = """
name: p
stages:
- name: Source
  actions:
  - name: App
    actionTypeId: {category: Source, owner: Entrepot, provider: Git, version: "1"}
    configuration: {Url: "https://forge.example/team/app.git", BranchName: main, Repository: dev%s}
    outputArtifacts: [{name: App}]
- name: Next
  actions:
  - name: Act
    actionTypeId: %s
"""
BUILD = """{category: Build, owner: AWS, provider: CodeBuild}
    configuration: {ProjectName: unit}
    inputArtifacts: [{name: App}]"""

INPUT = "\n    inputArtifacts: [{name: App}]"
PROMOTE = "{category: Deploy, owner: Entrepot, provider: Promote}\n    configuration: {TargetRepository: prod}"
DEPLOY = """{category: Deploy, owner: AWS, provider: CodeDeploy}
    configuration: {ApplicationName: a, DeploymentGroupName: b%s}"""


@pytest.mark.parametrize(
    ("pattern", "text", "covers"),
    [
        ("main", "main", True),
        ("main", "maintenance", False),
        ("release/*", "release/1", True),
        ("release/*", "release/1/hot", False),
        ("release/**", "release/1/hot", True),
        ("*", "a/b", False),
        ("**", "a/b", True),
        ("**/*.py", "a/b/c.py", True),
        ("**/*.py", "c.py", True),
        ("src/**/test", "src/test", True),
        ("src/**/test", "src/a/b/test", True),
        ("src/**/test", "srctest", False),
        ("a**/b", "ax/y/b", True),
        ("a**/b", "a/b", True),
        ("v?", "v1", True),
        ("v?", "v/", False),
        ("a.c", "abc", False),
        ("", "", True),
    ],
)
def test_a_glob_covers_the_whole_value(pattern: str, text: str, covers: bool) -> None:
    assert is_covered(pattern, text) is covers


def test_a_glob_takes_time_that_grows_with_the_text_alone() -> None:
    assert not is_covered("**a" * 60 + "b", "a" * 4000)


def read(triggers: str, more: str = "", action: str = BUILD) -> tuple:
    (declared,) = parse_documents(DOCUMENT % (more, action) + triggers, PROVIDERS)
    definition = declared.declares
    assert from_model(to_model(definition)) == definition
    return definition.triggers


def push(ref: str = "refs/heads/main", *files: str) -> Happening:
    return Happening("PUSH", "7", head_ref=ref, files=files)


def pull(event: str, base: str) -> Happening:
    return Happening(event, "7", head_ref="refs/heads/x", base_ref=f"refs/heads/{base}")


def filters(text: str) -> tuple:
    return read(
        f"triggers: [{{providerType: CodeStarSourceConnection, gitConfiguration: {{sourceActionName: App{text}}}}}]"
    )


def test_without_triggers_its_own_branch_starts_it() -> None:
    assert starts((), Branches("main"), push())
    assert not starts((), Branches("main"), push("refs/heads/other"))
    assert not starts((), Branches("main"), push("refs/tags/main"))
    assert not starts((), Branches("main", detects=False), push())
    assert not starts((), Branches("main"), pull("PULL_REQUEST_CREATED", "main"))


def test_triggers_take_the_place_of_the_own_branch() -> None:
    found = filters(", push: [{branches: {includes: [release/*]}}]")
    assert starts(found, Branches("main", detects=False), push("refs/heads/release/1"))
    assert not starts(found, Branches("main"), push())


def test_filters_are_or_and_what_one_says_is_and() -> None:
    found = filters(
        ", push: [{branches: {includes: [main, dev], excludes: [dev]}, filePaths: {includes: [src/**]}},"
        " {tags: {includes: [v*]}}]"
    )
    own = Branches("main")
    assert starts(found, own, push("refs/heads/main", "docs/a", "src/b/c"))
    assert not starts(found, own, push("refs/heads/main", "docs/a"))
    assert not starts(found, own, push("refs/heads/main"))  # nobody has told the files
    assert not starts(found, own, push("refs/heads/dev", "src/b"))  # in both lists: excluded
    assert starts(found, own, push("refs/tags/v1"))
    assert not starts(found, own, push("refs/tags/w1"))
    # Only the first hundred files are looked at.
    assert not starts(found, own, push("refs/heads/main", *[f"docs/{n}" for n in range(100)], "src/x"))


def test_a_push_of_a_tag_needs_a_filter_of_tags() -> None:
    assert starts(filters(""), Branches("main"), push("refs/heads/any"))
    assert not starts(filters(""), Branches("main"), push("refs/tags/v1"))
    assert not starts(filters(", push: [{branches: {excludes: [wip]}}]"), Branches("main"), push("refs/tags/v1"))


def test_pull_requests_are_judged_by_event_and_destination() -> None:
    found = filters(", pullRequest: [{events: [OPEN, CLOSED], branches: {includes: [main]}}]")
    own = Branches("main")
    assert starts(found, own, pull("PULL_REQUEST_CREATED", "main"))
    assert starts(found, own, pull("PULL_REQUEST_REOPENED", "main"))
    assert starts(found, own, pull("PULL_REQUEST_MERGED", "main"))
    assert not starts(found, own, pull("PULL_REQUEST_UPDATED", "main"))
    assert not starts(found, own, pull("PULL_REQUEST_CREATED", "other"))
    assert not starts(found, own, push())


@pytest.mark.parametrize(
    ("triggers", "more", "action", "fault"),
    [
        ("triggers: [{gitConfiguration: {sourceActionName: Other}}]", "", BUILD, "line 16: .*'Other' is no source"),
        ("triggers: [{gitConfiguration: {sourceActionName: App, push: [{tags: {includes: [a]}, branches: {includes: [b]}}]}}]",
         "", BUILD, "lets nothing through"),
        ("triggers: [{gitConfiguration: {sourceActionName: App, push: [{branches: {includes: ['[a-z]']}}]}}]",
         "", BUILD, "a pattern knows"),
        ("triggers: [{gitConfiguration: {sourceActionName: App, push: [{}, {}, {}, {}]}}]", "", BUILD, "at most 3"),
        ("", ", Connection: forge", BUILD.replace("App", "Nope"), "no action makes"),
        ("", ", FullRepositoryId: app", BUILD, "either Url, or Connection"),
        ("", "", PROMOTE, "nothing gives it a package version"),
        ("", "", DEPLOY % "", "name the input artifact"),
        ("", "", DEPLOY % ", Asset: x" + INPUT, "Asset is about the package version"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_line(triggers: str, more: str, action: str, fault: str) -> None:
    with pytest.raises(InvalidDocument, match=fault):
        read(triggers, more, action)
