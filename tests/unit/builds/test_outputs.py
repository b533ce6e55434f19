"""Artifacts and caches around the phases, over an executor that runs nothing; what projects say of them; where downloads go."""

from pathlib import Path

import pytest

from hooks.builds.executor import ExecutorError, Refused
from hooks.builds.executors.dummy import DummyExecutor, Step
from hooks.builds.keeping import CacheKey, Incoming
from hooks.builds.output_settings import OutputSettings, output_faults
from hooks.builds.phases import BuildStatus
from hooks.commands.downloading import download_paths
from registry.commands.client import Failed
from tests.build_bench import Log, MemoryKeeper, build, phase_states

FILES = {"a.txt": b"a", "b.txt": b"b", "deps": b"d"}
HEAD = "version: 0.2\nphases: {build: {commands: [ok]}}\n"


def run(more: str, outputs: OutputSettings | None = None, log: Log | None = None, **steps: Step):
    executor = DummyExecutor({"ok": Step(), **steps}, FILES)
    outcome, log = build(executor, HEAD + more, log=log, outputs=outputs or OutputSettings(), project="shop")
    return outcome, log, executor


def names(more: str, document: dict) -> list[str]:
    assert output_faults(document) == []
    return sorted(run(more, OutputSettings.of(document))[1].artifacts)


NAMED = "artifacts: {files: a.txt, name: mine, s3-prefix: /p/}\n"
SECOND = "artifacts: {files: a.txt, secondary-artifacts: {docs: {files: b.txt, name: papers}, src: {files: a.txt}}}\n"


@pytest.mark.parametrize(
    ("more", "document", "expected"),
    [
        (NAMED, {}, ["p/mine"]),
        (NAMED, {"artifacts": {"type": "S3", "name": "ours"}}, ["p/ours"]),
        (NAMED, {"artifacts": {"type": "S3", "overrideArtifactName": True}}, ["p/mine"]),
        (NAMED, {"artifacts": {"type": "CODEPIPELINE"}}, ["shop"]),
        (NAMED, {"artifacts": {"type": "NO_ARTIFACTS"}}, []),
        (SECOND, {}, ["papers", "shop", "src"]),
        (
            SECOND,
            {
                "artifacts": {"type": "NO_ARTIFACTS"},
                "secondaryArtifacts": [{"type": "S3", "artifactIdentifier": name} for name in ("docs", "src")],
            },
            ["docs", "src"],
        ),
    ],
)
def test_names_are_the_projects_unless_it_lets_the_buildspec_say(
    more: str, document: dict, expected: list[str]
) -> None:
    assert names(more, document) == expected


def test_a_secondary_artifact_that_the_project_does_not_name_fails_and_the_others_are_kept() -> None:
    outputs = OutputSettings.of({"secondaryArtifacts": [{"type": "S3", "artifactIdentifier": "docs"}]})
    outcome, log, _ = run(SECOND, outputs)
    assert phase_states(outcome)["UPLOAD_ARTIFACTS"] == "FAILED"
    assert "artifact src is not among the secondaryArtifacts of the project" in log.text
    assert sorted(log.artifacts) == ["docs", "shop"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"artifacts": {"type": "FTP"}}, "type must be one of"),
        ({"artifacts": {"packaging": "TAR"}}, "packaging must be NONE or ZIP"),
        ({"artifacts": {"encryptionDisabled": True}}, "always encrypted"),
        ({"secondaryArtifacts": [{"type": "S3"}]}, "artifactIdentifier has"),
        ({"secondaryArtifacts": [{"artifactIdentifier": "primary"}]}, "is not 'primary'"),
        ({"secondaryArtifacts": [{"artifactIdentifier": "a"}, {"artifactIdentifier": "a"}]}, "is there twice"),
        ({"cache": {"type": "SQUIRREL"}}, "cache: type"),
        ({"cache": {"cacheNamespace": "../x"}}, "cacheNamespace has"),
    ],
)
def test_what_a_project_cannot_say(document: dict, words: str) -> None:
    (fault,) = output_faults(document)
    assert words in fault


CACHE = "cache: {{paths: [deps], key: {key}, fallback-keys: [d-]{more}}}\n"


def test_a_cache_is_restored_before_install_and_saved_only_after_success() -> None:
    log = Log()
    run(CACHE.format(key="d-1", more=""), log=log)
    assert list(log.caches) == [("d-1", next(iter(log.caches))[1])]
    outcome, log, executor = run(CACHE.format(key="d-2", more=""), log=log, ok=Step(exit_code=1))
    assert outcome.status is BuildStatus.FAILED
    assert len(executor.restored) == len(log.caches) == 1
    text = log.text[log.text.rindex("Waiting for DOWNLOAD_SOURCE") :]
    assert text.index("Restoring cache d-1 (by a fallback key)") < text.index("Entering phase INSTALL")


@pytest.mark.parametrize(("action", "restored", "saved"), [("restore", 1, 1), ("save", 0, 2)])
def test_an_action_is_one_direction_only(action: str, restored: int, saved: int) -> None:
    log = Log()
    run(CACHE.format(key="d-1", more=""), log=log)
    _, log, executor = run(CACHE.format(key="d-2", more=f", action: {action}"), log=log)
    assert (len(executor.restored), len(log.caches)) == (restored, saved)


@pytest.mark.parametrize(
    ("cache", "told"),
    [
        ({"type": "NO_CACHE"}, "The project has NO_CACHE"),
        (
            {"type": "LOCAL", "modes": ["LOCAL_SOURCE_CACHE", "LOCAL_DOCKER_LAYER_CACHE"]},
            "The project has a local cache without LOCAL_CUSTOM_CACHE",
        ),
    ],
)
def test_a_project_without_cache_uses_none(cache: dict[str, object], told: str) -> None:
    log = Log()
    run(CACHE.format(key="d-1", more=""), OutputSettings.of({"cache": cache}), log)
    assert log.caches == {}
    assert told in log.text
    assert ("Warning: LOCAL_DOCKER_LAYER_CACHE has no effect" in log.text) is ("modes" in cache)


@pytest.mark.parametrize("error", [Refused("too large"), ExecutorError("no space")])
def test_a_cache_that_cannot_be_kept_fails_no_build(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Full(Log):
        @property
        def keeper(self):
            keeper = MemoryKeeper(self.artifacts, self.caches)
            keeper.begin_cache = self.begin_cache
            return keeper

        def begin_cache(self, _wanted: CacheKey) -> Incoming:
            def write(_data: bytes) -> None:
                raise error

            incoming = MemoryKeeper({}, {}).begin_cache(CacheKey("v"))
            incoming.write = write
            return incoming

    outcome, log, _ = run(CACHE.format(key="d", more=""), log=Full())
    assert outcome.status is BuildStatus.SUCCEEDED
    assert f"Warning: the cache is not saved: {error}" in log.text


def test_a_cache_that_cannot_be_looked_for_or_begun_fails_no_build() -> None:
    class Away(Log):
        @property
        def keeper(self):
            keeper = MemoryKeeper(self.artifacts, self.caches)
            keeper.find_cache = keeper.begin_cache = self.refuse
            return keeper

        def refuse(self, _wanted: CacheKey) -> None:
            raise ExecutorError("no local cache can be written")

    outcome, log, _ = run(CACHE.format(key="d", more=""), log=Away())
    assert outcome.status is BuildStatus.SUCCEEDED
    assert "Warning: the cache is not restored: no local cache can be written" in log.text
    assert "Warning: the cache is not saved: no local cache can be written" in log.text


def test_downloads_stay_in_their_folder_and_apart() -> None:
    def paths(*names: str) -> list[str]:
        found = [{"name": name, "artifactIdentifier": f"id{number}"} for number, name in enumerate(names)]
        return [str(path) for path in download_paths(found)]

    assert paths("a", "b.zip", "c/d", "a") == ["a.zip", "b.zip", "c/d.zip", "a-id3.zip"]
    for name in ("../a", "/a", "a/../../b", ".."):
        with pytest.raises(Failed):
            paths(name)
    assert Path(paths("a")[0]).name == "a.zip"
