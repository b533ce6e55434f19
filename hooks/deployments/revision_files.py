"""The files of a package version as they are deployed: by the rule that downloads go by, with the reason where it is no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from registry.errors import Conflict, NotFound
from registry.names import PackageKey, PackageName
from registry.repos import shelf, states, topology
from registry.repos.held import (
    OfferedFile,
    facts_of,
    package_status,
    read_rows,
    read_states,
    states_of,
    visible,
)
from registry.repos.origins import Ask, serving


class RevisionRefused(Conflict):
    """What is to be deployed is gone, is not what was pinned, or is served to nobody; trying again will not help."""

    code = "revision_refused"


def served_files(session: Session, package: Mapping[str, Any]) -> dict[str, OfferedFile]:
    """The files of the version that ``package`` (of a revision's document) names, by their names.

    Raises RevisionRefused where it is not there, or nobody gets it: quarantined, archived, disposed of, not finished, or
    from outside under a name that has been claimed since.
    """
    try:
        domain, repository = topology.find_repository(session, package["domain"], package["repository"])
    except NotFound as error:
        raise RevisionRefused(f"{called(package)} cannot be deployed: {error}") from error
    key = PackageKey(package["format"], package["namespace"], PackageName(package["name"]))
    known = topology.load(session, domain.id)
    chain = known.chain(repository.id)
    rows = read_rows(session, chain, key, None)
    counts = serving(facts_of(known, chain, key, rows), Ask.BUILD_INPUT)
    status, reason = package_status(rows, chain, counts)
    if status == shelf.QUARANTINED:
        raise RevisionRefused(
            f"{called(package)} cannot be deployed: the package is quarantined" + (f" ({reason})" if reason else "")
        )
    state = states_of(read_states(session, chain, key, rows), chain, counts).get(package["version"])
    if state in {states.ARCHIVED, states.DISPOSED}:
        raise RevisionRefused(f"{called(package)} cannot be deployed: it is {state}")
    files = {
        name: file
        # Versions are compared by their canonical text: it is by such that a revision names one.
        for name, file in visible(rows, chain, counts, str).items()
        if file.version == package["version"] and file.kept is not None
    }
    if any(file.status == states.UNFINISHED for file in files.values()):
        raise RevisionRefused(
            f"{called(package)} cannot be deployed: it is {states.UNFINISHED}, files are still to come"
        )
    if not files:
        raise RevisionRefused(f"{called(package)} cannot be deployed: it is not there, or is blocked there")
    return files


def called(package: Mapping[str, Any]) -> str:
    """A version as people know it, with where it is."""
    name = f"{package['namespace']}/{package['name']}" if package["namespace"] else package["name"]
    return f"{name} {package['version']} of {package['domain']}/{package['repository']}"
