"""The variables of a build that nobody can set: what and whose it is."""

from __future__ import annotations

from hooks.builds.bundles import source_variables
from hooks.builds.source import PackageSource
from hooks.models.build import Build


def reserved_variables(build: Build, project: str, source: PackageSource) -> dict[str, str]:
    """CODEBUILD_* (the CodeBuild user guide's "Environment variables in build environments"), CI, and the source's."""
    return {
        "CI": "true",
        "CODEBUILD_CI": "true",
        "CODEBUILD_BUILD_ID": f"{project}:{build.id}",
        "CODEBUILD_BUILD_ARN": f"arn:entrepot:codebuild:::build/{project}:{build.id}",
        "CODEBUILD_PROJECT_ARN": f"arn:entrepot:codebuild:::project/{project}",
        "CODEBUILD_BUILD_NUMBER": str(build.number),
        "CODEBUILD_BUILD_IMAGE": build.environment["type"],
        "CODEBUILD_INITIATOR": build.initiator,
        "CODEBUILD_LOG_PATH": build.id,
        "CODEBUILD_PROJECT_NAME": project,
        "CODEBUILD_START_TIME": str(int((build.started_at or build.submitted_at).timestamp() * 1000)),
        **source_variables(source),
        **build.webhook,
    }
