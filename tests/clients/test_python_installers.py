"""pips that distributions still ship, which read the HTML page only, and the ways in which a credential reaches pip."""

import sys
from pathlib import Path

import pytest
import requests

from tests.harness import packages, python_clients
from tests.harness.clients import BIN, Clients, Done
from tests.harness.server import ROOT, Server

PIPS = BIN.parent / "pips"
VERSIONS = [
    line.split()[0].removeprefix("pip==") for line in (ROOT / "tests/harness/old-pips.txt").read_text().splitlines()
]


@pytest.fixture(scope="module")
def stocked(shared_server: Server, token: str) -> Server:
    """Two releases of a package with a dependency; the newer one is not for this Python, another one is yanked."""
    for filename, body, name, version in (
        (*packages.wheel("Aged-Pkg", "1.0", requires=("aged-base>=1; python_version>='3'",)), "Aged-Pkg", "1.0"),
        (*packages.wheel("Aged-Pkg", "2.0", requires_python="<3"), "Aged-Pkg", "2.0"),
        (*packages.wheel("aged-base", "1.0+local.1"), "aged-base", "1.0+local.1"),
        (*packages.wheel("aged-base", "3.0"), "aged-base", "3.0"),
    ):
        python_clients.post(shared_server, token, filename, body, name, version).raise_for_status()
    answer = requests.post(
        f"{shared_server.url}/api/v1/domains/default/repositories/dev/packages/pypi/aged-base/versions/3.0/yank",
        headers={"Authorization": f"Bearer {token}"},
        json={"reason": "odd"},
        timeout=10,
    )
    assert answer.status_code == 200
    return shared_server


def install(home: Clients, version: str | None, index: str, *arguments: str, **more: str) -> Done:
    """``pip install --target`` with an old pip, or with this environment's own."""
    python_path = {"PYTHONPATH": str(PIPS / version)} if version else {}
    return home.run(
        sys.executable, "-m", "pip", "install", "--no-cache-dir", "--index-url", index,
        "--target", str(home.home / "target"), *arguments,
        **python_path, **more,
    )  # fmt: skip


# The oldest and the newest of them in each run; those between, in the campaign.
@pytest.mark.parametrize(
    "version", [VERSIONS[0], *(pytest.param(each, marks=pytest.mark.long) for each in VERSIONS[1:-1]), VERSIONS[-1]]
)
def test_old_pips_install_what_is_for_them(stocked: Server, token: str, home: Clients, version: str):
    install(home, version, stocked.index(token=token), "aged.pkg").ok()
    assert {path.name for path in (home.home / "target").glob("*.dist-info")} == {
        "aged_pkg-1.0.dist-info",
        "aged_base-1.0+local.1.dist-info",
    }


def test_pip_finds_its_credential_in_netrc(stocked: Server, token: str, home: Clients):
    assert install(home, None, stocked.index(), "aged-base").returncode != 0  # negative control
    netrc = home.home / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login alice password {token}\n")
    netrc.chmod(0o600)
    install(home, None, stocked.index(), "aged-base").ok()


def test_a_user_without_a_password_is_asked_for_one_so_that_pip_asks_the_keyring(
    stocked: Server, token: str, home: Clients, tmp_path: Path
):
    """pip sends ``user:`` until it hears 401, also where everybody may read."""
    answer = requests.get(f"{stocked.index()}aged-base/", auth=("alice", ""), timeout=10)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    program = tmp_path / "bin/keyring"  # pip takes one that is outside of its own environment
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1 $3" = "get alice" ] && echo {token}\n')
    program.chmod(0o755)
    index = stocked.index().replace("://", "://alice@")
    path = f"{program.parent}:/usr/bin:/bin"
    install(home, None, index, "--keyring-provider", "subprocess", "aged-base", PATH=path).ok()
    assert install(home, None, index, "--keyring-provider", "disabled", "aged-base", PATH=path).returncode != 0
