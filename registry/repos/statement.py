"""What a build published, said as an in-toto statement with SLSA provenance (https://slsa.dev/spec/v1.0/provenance).

It is made from the rows of the publishing transaction and is not signed: it is as good as this server's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.repos.built import BuiltBy

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:entrepot:build:v1"


def statement(made: BuiltBy, digests: Mapping[str, str], base_url: str) -> dict[str, Any]:
    """A statement about the files of ``made``; ``digests`` is file name → SHA-256, ``base_url`` where this server is."""
    base = base_url.rstrip("/")
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digests[name]}} for name in made.assets if name in digests],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"project": made.project, "sourceVersion": made.source.version},
                "internalParameters": {"initiator": made.initiator, "attempt": made.attempt},
                "resolvedDependencies": _dependencies(made),
            },
            "runDetails": {
                "builder": {"id": f"{base}/api/v1/build-projects/{made.project}", "version": {"runner": made.runner}},
                "metadata": {
                    "invocationId": f"{base}/builds/{made.build_id}",
                    "finishedOn": made.published_at.isoformat().replace("+00:00", "Z"),
                },
            },
        },
    }


def _dependencies(made: BuiltBy) -> list[dict[str, Any]]:
    algorithm, _, value = made.source.digest.partition(":")
    if not value and not made.source.uri:
        return []
    found: dict[str, Any] = {"uri": made.source.uri} if made.source.uri else {"name": made.source.type.lower()}
    if value:
        # A commit of git, whichever digest its repository uses, has its own name here.
        found["digest"] = {"gitCommit" if algorithm == "sha1" else algorithm: value}
    return [found]
