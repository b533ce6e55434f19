"""What commands look up before they ask: which package of a repository a name on the command line means."""

from __future__ import annotations

from typing import NamedTuple

import click

from registry.commands.client import Client, Failed
from registry.commands.options import Place


class PackageAt(NamedTuple):
    """Where the management interface has a package: the parts of its path, and the namespace, which goes in the query."""

    path: tuple[str, ...]
    namespace: str | None


def package_at(client: Client, repository: Place, name: str, format_name: str | None) -> PackageAt:
    """The package that ``name`` means, in the spelling of lists (``@scope/name``) or of paths (``scope/name``).

    Without a format the repository is asked, which has to hold it. Raises Failed, UsageError for several formats.
    """
    if format_name is None:
        return _held(client, repository, name)
    # A part of a path cannot hold a slash: what is before the last one is the namespace.
    namespace, _, last = name.rpartition("/")
    return _at(repository, format_name, namespace, last)


def _held(client: Client, repository: Place, name: str) -> PackageAt:
    wanted = name.lower()
    found = {
        item["format"]: item
        for item in client.items(
            *repository.path, "packages", search=wanted.rpartition("/")[2][:100], limit=100, most=1000
        )
        if wanted in {item["name"].lower(), item["displayName"].lower(), f"{item['namespace']}/{item['name']}".lower()}
    }
    if len(found) == 1:
        (item,) = found.values()
        return _at(repository, item["format"], item["namespace"], item["name"])
    if found:
        raise click.UsageError(f"{name} is there as {' and '.join(sorted(found))}: say which with --format")
    raise Failed(
        f"{repository.domain}/{repository.repository} itself holds no package {name} under this spelling; with --format "
        "it need not hold it, and other spellings count"
    )


def _at(repository: Place, format_name: str, namespace: str, name: str) -> PackageAt:
    return PackageAt((*repository.path, "packages", format_name, name), namespace or None)
