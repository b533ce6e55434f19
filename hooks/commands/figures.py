"""``entrepot figures``: deployment frequency, lead time, change failure rate and time to restore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from registry.commands.client import Client, with_client
from registry.commands.options import example
from registry.commands.output import json_option, print_json, print_rows, say

_COLUMNS = (
    ("NAME", "name"),
    ("DEPLOYMENTS", "deployments"),
    ("A DAY", "deploymentsPerDay"),
    ("LEAD TIME", "lead"),
    ("LEAD P90", "leadP90"),
    ("FAILURES", "rate"),
    ("RESTORED IN", "restore"),
    ("RESTORE P90", "restoreP90"),
    ("ROLLBACKS", "rollbacks"),
    ("NOT RESTORED", "unrestored"),
)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@example("entrepot figures --by pipeline --days 90")
@click.command()
@click.option(
    "--by",
    default="application",
    show_default=True,
    type=click.Choice(["application", "group", "pipeline"]),
    help="What a line is of.",
)
@click.option("--days", default="30", show_default=True, type=click.Choice(["7", "30", "90"]), help="How far back.")
@click.option("--application", default="", metavar="NAME", help="Of this application alone.")
@click.option("--pipeline", default="", metavar="NAME", help="Of what this pipeline deployed alone.")
@json_option
@with_client
def figures(client: Client, *, by: str, days: str, application: str, pipeline: str, as_json: bool) -> None:
    """Show deployment frequency, lead time (median, p90), change failure rate and time to restore."""
    found = client.get("figures", by=by, days=int(days), application=application or None, pipeline=pipeline or None)
    if as_json:
        print_json(found)
        return
    print_rows([_row(each) for each in found["items"]], _COLUMNS, as_json=False)
    if found["isCut"]:
        say("more ended in that time than is counted: these are the figures of the newest 5000 deployments")


def _row(each: Mapping[str, Any]) -> dict[str, Any]:
    rate, lead, restore = each["changeFailureRate"], each["leadTimeSeconds"], each["timeToRestoreSeconds"]
    return {
        **each,
        "deploymentsPerDay": f"{each['deploymentsPerDay']:.2f}",
        "rate": "-" if rate is None else f"{rate:.0%} ({each['failures']})",
        "lead": _length(lead["median"]),
        "leadP90": _length(lead["p90"]),
        "restore": _length(restore["median"]),
        "restoreP90": _length(restore["p90"]),
    }


def _length(seconds: float | None) -> str:
    """A time in its two largest units; - for none."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"
