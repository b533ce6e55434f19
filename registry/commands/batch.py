"""What commands that change several versions have in common: each version's outcome, and a failure if one has none."""

from __future__ import annotations

from typing import Any

from registry.commands.client import Client, Failed
from registry.commands.lookup import PackageAt
from registry.commands.output import print_json, print_rows, say

_DONE = (("VERSION", "version"), ("STATUS", "status"), ("REVISION", "revision"))


def run_batch(client: Client, package: PackageAt, act: str, body: dict[str, Any], *, as_json: bool) -> None:
    """Do ``act`` to versions of a package and tell what became of each. Raises Failed when one of them stayed as it was."""
    result = client.send("POST", *package.path, "versions", act, body=body, namespace=package.namespace)
    failed = result["failedVersions"]
    if as_json:
        print_json(result)
    else:
        done = [{"version": version, **now} for version, now in result["successfulVersions"].items()]
        print_rows(done, _DONE, as_json=False)
    for version, why in failed.items():
        say(f"{version}: {why['errorCode']}: {why['errorMessage']}")
    if failed:
        raise Failed(f"{len(failed)} of {len(failed) + len(result['successfulVersions'])} versions stayed as they were")
