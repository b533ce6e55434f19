"""The artifacts of a build: what its buildspec selects, packed in the sandbox and handed to the keeper, digest and all."""

from __future__ import annotations

from collections.abc import Iterator

from hooks.builds.evaluate import Bench
from hooks.builds.executor import Refused, Selection
from hooks.builds.keeping import PRIMARY, ArtifactName, Keeper
from hooks.builds.output_settings import CODEPIPELINE, NO_ARTIFACTS, ArtifactSettings, OutputSettings, is_identifier
from hooks.builds.spec import ArtifactSpec, BuildSpec

MAX_NAME_CHARACTERS = 500
NO_MATCH = "no matching artifact paths found"


class UploadFailed(Exception):
    """An artifact could not be made of what the build left; the sandbox can still be used."""


def upload(bench: Bench, spec: BuildSpec, settings: OutputSettings, keeper: Keeper, *, project: str) -> None:
    """Pack and keep each artifact; one that fails does not keep the others from being kept.

    Raises UploadFailed for the first that failed, Refused in the middle of an archive (nothing can be asked of the
    sandbox after that), ExecutorError, and what ``bench.check`` does.
    """
    failure: UploadFailed | None = None
    for identifier, artifact, chosen in _wanted(bench, spec, settings):
        try:
            _upload(bench, identifier, artifact, chosen, keeper, project)
        except UploadFailed as error:
            bench.say(f"Artifact {identifier} failed: {error}")
            failure = failure or error
    if failure is not None:
        raise failure


def _wanted(
    bench: Bench, spec: BuildSpec, settings: OutputSettings
) -> Iterator[tuple[str, ArtifactSpec, ArtifactSettings | None]]:
    if settings.primary.type == NO_ARTIFACTS and settings.secondary is None:
        if spec.artifacts is not None or spec.secondary_artifacts:
            bench.say("The project has NO_ARTIFACTS: the artifacts of the buildspec are not kept")
        return
    if spec.artifacts is not None and settings.primary.type != NO_ARTIFACTS:
        yield PRIMARY, spec.artifacts, settings.primary
    for identifier, artifact in spec.secondary_artifacts.items():
        if settings.secondary is not None:
            yield identifier, artifact, settings.secondary.get(identifier)
        else:
            # CodePipeline's are called as their section is, whatever the project calls its own.
            yield identifier, artifact, ArtifactSettings(settings.primary.type, packaging=settings.primary.packaging)


def _upload(
    bench: Bench, identifier: str, artifact: ArtifactSpec, chosen: ArtifactSettings | None, keeper: Keeper, project: str
) -> None:
    if chosen is None:
        raise UploadFailed(f"artifact {identifier} is not among the secondaryArtifacts of the project")
    if identifier != PRIMARY and not is_identifier(identifier):
        raise UploadFailed(f"a secondary artifact cannot be called {identifier!r}")
    name = bench.mask(artifact_name(bench, identifier, artifact, chosen, project))
    bench.say(f"Expanding base directory path: {artifact.base_directory or '.'}")
    bench.say("Assembling file list")
    for pattern in artifact.files:
        bench.say(f"Expanding {pattern}")
    incoming = keeper.begin_artifact(ArtifactName(identifier, name, chosen.packaging))
    try:
        write = incoming.write if incoming is not None else _leave
        outcome, files = bench.sandbox.collect(_selection(artifact), write, bench.interrupt)
        bench.check(outcome)
        if not outcome.succeeded:
            raise UploadFailed(outcome.detail)
        if outcome.detail:
            bench.say(f"Skipping: {outcome.detail}")
        bench.say(f"Found {files} file(s)")
        if incoming is None:
            bench.say("Warning: this server keeps no artifacts of builds")
            return
        try:
            kept = incoming.keep(files)
        except Refused as error:
            raise UploadFailed(str(error)) from error
        bench.say(f"Artifact {identifier} is kept as {name}: {kept.size_bytes} bytes, SHA-256 {kept.sha256}")
    finally:
        if incoming is not None:
            incoming.abort()


def artifact_name(bench: Bench, identifier: str, artifact: ArtifactSpec, chosen: ArtifactSettings, project: str) -> str:
    """What an artifact is called: as its section says where the project lets it, else as the project. Raises UploadFailed."""
    own = chosen.name or (project if identifier == PRIMARY else identifier)
    if chosen.type == CODEPIPELINE:
        return own  # a pipeline names what its actions hand on
    name = bench.value_of(artifact.name) if chosen.overrides_name and artifact.name else own
    prefix = bench.value_of(artifact.s3_prefix).strip("/") if artifact.s3_prefix else ""
    name = "/".join(part for part in (prefix, name.strip("/")) if part) or own
    parts = name.split("/")
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable() or any(part in {"", ".", ".."} for part in parts):
        raise UploadFailed(f"an artifact cannot be called {name[:MAX_NAME_CHARACTERS]!r}")
    return name


def _selection(artifact: ArtifactSpec) -> Selection:
    return Selection(
        artifact.files,
        artifact.base_directory,
        artifact.discard_paths,
        artifact.exclude_paths,
        artifact.enable_symlinks,
    )


def _leave(_data: bytes) -> None:
    """Nobody keeps it."""
