"""What deciding costs: a warm index page for strangers, for a token, and for a token under policies and roles.

The first column is the same server with access, policies and audit taken out (``bench.undecided_app``): the ratio of
the others is what they cost. It should stay under 1.15 in every line.

Run it as ``python bench/access.py [--rounds N] [--seconds N]``. The columns take turns in each round, so that what else
the machine does falls on all of them; figures are medians, in microseconds of the server's CPU per request (which does
not depend on how busy the machine is) and in requests per second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import load  # noqa: E402
from bench.fixtures import batch  # noqa: E402
from bench.peers import gunicorn  # noqa: E402
from bench.processes import Running, loopback_session  # noqa: E402
from bench.targets import Entrepot, entrepot  # noqa: E402

STATEMENTS, CONNECTIONS = 50, 8
Columns = dict[str, tuple[Running, load.Ask]]


def rules(place: Entrepot, administrator: str) -> str:
    """Make 50 statements, 20 groups with roles, and somebody who is in all of them; returns a token of theirs."""
    with loopback_session() as session:
        session.headers["Authorization"] = f"Bearer {administrator}"

        def send(method: str, path: str, body: object) -> None:
            session.request(method, f"{place.url}/api/v1{path}", json=body, timeout=30).raise_for_status()

        send("POST", "/users", {"name": "member", "actions": []})
        for number in range(20):
            send("POST", "/groups", {"name": f"group{number}"})
            send("PUT", f"/groups/group{number}/members/member", None)
            grant = {"role": "reader", "principal": f"group/group{number}", "where": "default"}
            send("POST", "/role-grants", grant)
        network = {"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}
        statements = [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": ["codeartifact:Read*", "codeartifact:List*"],
                "Resource": f"package/default/*/pypi//{'*' if number % 10 == 0 else f'secret-{number}-*'}",
                "Condition": network,
            }
            for number in range(STATEMENTS)
        ]
        send("PUT", "/domains/default/permissions/policy", {"policyDocument": json.dumps({"Statement": statements})})
        answer = session.post(
            f"{place.url}/api/v1/tokens",
            json={"name": "bench", "user": "member", "actions": ["read"], "ttlSeconds": 3600},
            timeout=30,
        )
        answer.raise_for_status()
        return str(answer.json()["secret"])


def measure(columns: Columns, *, rounds: int, seconds: int) -> dict[str, list[load.Sample]]:
    """Load each column in turn."""
    found: dict[str, list[load.Sample]] = {name: [] for name in columns}
    for server, ask in columns.values():
        load.wrk(ask, server, seconds=1, connections=CONNECTIONS, as_mb_per_second=False)
    for _ in range(rounds):
        for name, (server, ask) in columns.items():
            sample = load.wrk(ask, server, seconds=seconds, connections=CONNECTIONS, as_mb_per_second=False)
            found[name].append(sample)
    return found


def show(found: dict[str, list[load.Sample]]) -> None:
    """Print a line for each column; the ratio is of CPU per request, to the first one."""
    base = 0.0
    for name, samples in found.items():
        cpu = statistics.median(sample.cpu_us_per_request or 0.0 for sample in samples)
        base = base or cpu
        rate = statistics.median(sample.value for sample in samples)
        sys.stdout.write(f"{name:40} {cpu:8.0f} us CPU {rate:8.0f} /s {cpu / base:6.2f}\n")
    sys.stdout.flush()


def _same(folder: str) -> dict[str, str]:
    """The environment of a second server over the same data."""
    return {"ENTREPOT_DATA": str(Path(folder) / "data")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, entrepot(Path(folder)) as place:
        load.upload(place.targets()[0].door, place.server, batch("x", 20), writers=1)  # type: ignore[arg-type]
        page = f"{place.url}/pypi/default/open/simple/bench-x-0/"
        kind = {"Accept": "application/vnd.pypi.simple.v1+json"}
        (Path(folder) / "off").mkdir()
        with gunicorn(Path(folder) / "off", sys.executable, "bench.undecided_app:app", _same(folder)) as (url, server):
            off = {"no access, policy or audit": (server, load.Ask(page.replace(place.url, url), kind))}
            known = {**kind, "Authorization": f"Bearer {place.token}"}
            plain: Columns = {
                **off,
                "strangers, no policy": (place.server, load.Ask(page, kind)),
                "a token, no policy": (place.server, load.Ask(page, known)),
            }
            show(measure(plain, rounds=options.rounds, seconds=options.seconds))
            known = {**kind, "Authorization": f"Bearer {rules(place, place.administrator)}"}
            # Beside the first column again: a machine is not the same a minute later.
            ruled: Columns = {
                **off,
                "strangers, 50 statements": (place.server, load.Ask(page, kind)),
                "a token, 50 statements and 20 roles": (place.server, load.Ask(page, known)),
            }
            show(measure(ruled, rounds=options.rounds, seconds=options.seconds))


if __name__ == "__main__":
    main()
