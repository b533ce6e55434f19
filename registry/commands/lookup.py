"""What commands look up before they ask: in which format a repository has a package."""

from __future__ import annotations

import click

from registry.commands.client import Client, Failed
from registry.commands.options import Place


def format_of(client: Client, repository: Place, name: str) -> str:
    """The one format in which a repository holds a package of that name. Raises Failed, UsageError for several."""
    wanted = name.lower()
    found = {
        item["format"]
        for item in client.items(*repository.path, "packages", search=wanted[:100], limit=100, most=1000)
        if wanted in {item["name"].lower(), item["displayName"].lower()}
    }
    if len(found) == 1:
        return str(found.pop())
    if found:
        raise click.UsageError(f"{name} is there as {' and '.join(sorted(found))}: say which with --format")
    raise Failed(f"{name} is not in {repository.domain}/{repository.repository} under this spelling; try --format")
