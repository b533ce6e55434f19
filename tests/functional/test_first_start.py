"""A server's first start and each later one: what is made, what is printed once, and what is refused."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from config import migrate
from registry.db import Database, sqlite_journal_mode
from tests import postgres
from tests.harness import packages, processes
from tests.harness.first_data import put_migrated_database
from tests.harness.publishing import file_url, publish
from tests.harness.server import ROOT, Server, free_port

SEED = int(os.environ.get("ENTREPOT_SEED", str(random.randrange(10**6))))
KILLED_STARTS = 10
LINK = re.compile(r"Sign in once as admin, within a day: (\S+)")
PASSWORD = "correct horse battery"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """A server that was not started yet, without a worker."""
    server = Server(tmp_path / "data", with_worker=False, from_nothing=True)
    yield server
    server.kill()


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def links(server: Server) -> list[str]:
    return LINK.findall(server.log_text())


def sign_in(link: str) -> requests.Response:
    """Open a one-time link as a browser does, and press its button."""
    browser = requests.Session()
    page = browser.get(link, timeout=10)
    assert page.status_code == 200
    address = link.partition("?")[0]
    return browser.post(address, headers={"Origin": address.removesuffix("/setup")}, timeout=10, allow_redirects=False)


def refused(server: Server, *command: str) -> str:
    """The one line with which a command refuses."""
    if command == ("serve",):
        command = ("serve", "--bind", f"127.0.0.1:{free_port()}")
    done = server.command(*command, "--data", str(server.data))
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("entrepot: cannot start: "), line
    return line


def begin(server: Server) -> None:
    """Make all that a first start makes, in tables that are there."""
    put_migrated_database(server.data)
    assert server.command("migrate", "--data", str(server.data)).returncode == 0


class TestFirstStart:
    def test_everything_is_made_for_this_user_alone(self, fresh: Server):
        fresh.start()
        assert entries(fresh.data) == {"blobs", "entrepot.db", "keys", "run"}
        assert entries(fresh.data / "keys") == {"master-keys.json", "token-pepper"}
        for path in [fresh.data, *fresh.data.rglob("*")]:
            assert mode(path) & 0o077 == 0, path
        assert mode(fresh.data) == 0o700
        assert mode(fresh.data / "entrepot.db") == 0o600

    def test_the_default_domain_has_a_way_out_in_one_place_only(self, fresh: Server):
        fresh.start()
        headers = {"Authorization": f"Bearer {fresh.token()}"}
        found = requests.get(f"{fresh.url}/api/v1/repositories", headers=headers, timeout=10).json()["items"]
        chains = {entry["name"]: entry["upstreams"] for entry in found}
        assert chains == {"public": [], "dev": ["public"], "staging": [], "prod": []}
        assert {entry["domain"] for entry in found} == {"default"}
        outside = {entry["name"]: [each["format"] for each in entry["connections"]] for entry in found}
        # Each format that has a public index anywhere.
        with_index = {path.parent.name for path in ROOT.glob("registry/formats/*/routes.py")} - {"generic"}
        assert set(outside.pop("public")) == with_index
        assert set(map(tuple, outside.values())) == {()}
        assert not any(entry["anonymousRead"] for entry in found)

    def test_the_printed_link_signs_in_once(self, fresh: Server):
        fresh.start()
        assert f"Entrepot serves {fresh.url}/ from {fresh.data}" in fresh.log_text()
        (link,) = links(fresh)
        assert link.startswith(f"{fresh.url}/setup?code=")
        first = sign_in(link)
        assert (first.status_code, first.headers["Location"]) == (303, "/account/password")
        again = sign_in(link)
        assert again.status_code == 403
        assert "entrepot_session" not in again.cookies

    def test_a_link_made_later_leads_to_the_running_server(self, fresh: Server):
        fresh.start()
        made = fresh.command("user", "login-link", "admin", "--data", str(fresh.data))
        assert made.stdout.startswith(f"{fresh.url}/setup?code="), made.stdout + made.stderr
        assert sign_in(made.stdout.strip()).status_code == 303
        assert fresh.stop() == 0
        made = fresh.command("user", "login-link", "admin", "--data", str(fresh.data))
        assert made.stdout.startswith("http://127.0.0.1:8080/setup?code=")

    def test_an_affected_sqlite_is_warned_of_once_for_all_processes(self, fresh: Server):
        fresh.with_worker = True
        fresh.start()
        # The worker says this once it has started, and so after it would have warned.
        processes.wait_until(lambda: "builds run here" in fresh.log_text())
        assert fresh.log_text().count("can lose commits in WAL mode") == int(sqlite_journal_mode() != "WAL")

    def test_each_start_prints_a_new_link_until_a_password_is_set(self, fresh: Server):
        for _ in range(2):
            fresh.start()
            assert fresh.stop() == 0
        first, second = links(fresh)
        assert first != second
        set_password = fresh.command("user", "password", "admin", "--data", str(fresh.data), input=f"{PASSWORD}\n")
        assert set_password.returncode == 0, set_password.stderr
        fresh.start()
        assert len(links(fresh)) == 2
        assert fresh.log_text().count("Entrepot serves") == 3

    def test_nobody_can_come_in_without_that_link(self, fresh: Server):
        fresh.start()
        for user in ("admin", "root", "build", "entrepot"):
            for password in ("", "admin", "password", "entrepot", "changeme"):
                answer = requests.get(f"{fresh.url}/api/v1/repositories", auth=(user, password), timeout=20)
                assert answer.status_code in {401, 429}, (user, password)
        with sqlite3.connect(f"file:{fresh.data}/entrepot.db?mode=ro", uri=True) as connection:
            hashes = connection.execute("select name, password_hash from account").fetchall()
            tokens = connection.execute("select count(*) from token").fetchone()
        assert "admin" in dict(hashes)
        assert set(dict(hashes).values()) == {None}
        assert tokens == (0,)


class TestRefusals:
    @pytest.fixture
    def fresh(self, tmp_path: Path) -> Iterator[Server]:
        """One whose tables need not be made by migrations again."""
        server = Server(tmp_path / "data", with_worker=False)
        yield server
        server.kill()

    def test_a_second_server_on_the_same_data(self, fresh: Server):
        fresh.start()
        line = refused(fresh, "serve", "--bind", f"127.0.0.1:{free_port()}")
        assert line == f"entrepot: cannot start: another server uses {fresh.data}"
        assert requests.get(f"{fresh.url}/readyz", timeout=5).status_code == 200

    def test_a_port_that_is_taken(self, fresh: Server, tmp_path: Path):
        fresh.start()
        second = Server(tmp_path / "second", with_worker=False)
        line = refused(second, "serve", "--bind", f"127.0.0.1:{fresh.port}")
        assert line == f"entrepot: cannot start: cannot listen on 127.0.0.1:{fresh.port}: Address already in use"
        assert processes.running(str(second.data)) == []

    def test_an_address_of_another_machine(self, fresh: Server):
        line = refused(fresh, "serve", "--bind", "192.0.2.1:8080")
        assert line.endswith("cannot listen on 192.0.2.1:8080: Cannot assign requested address")

    def test_all_faults_of_the_settings_are_told_at_once(self, fresh: Server):
        fresh.data.mkdir()
        (fresh.data / "entrepot.toml").write_text(
            'nonsense = 1\nlog = "loud"\n[server]\nbnid = "x"\nworkers = "many"\n[worker]\nslots = true\n'
        )
        done = fresh.command("serve", "--data", str(fresh.data))
        assert done.returncode == 2
        assert sorted(done.stderr.splitlines()) == [
            "entrepot: [nonsense] is not a section",
            "entrepot: log is a section, [log], and not a value",
            "entrepot: server.bnid is not a setting",
            "entrepot: server.workers: invalid literal for int() with base 10: 'many'",
            "entrepot: worker.slots: True is not a number",
        ]
        assert entries(fresh.data) == {"entrepot.toml"}

    def test_all_contradictions_of_the_settings_are_told_at_once(self, fresh: Server):
        bad = {
            "SERVER_BIND": "8080",
            "SERVER_PUBLIC_URL": "ftp://example.org",
            "SERVER_THREADS": "1",
            "BUILDS_REGISTRY_ADDRESS": "::1:80",
            "WORKER_LEASE_SECONDS": "0",
            "UPSTREAM_ALLOWED_NETWORKS": "10.0.0.1/8",
            "DATABASE_URL": "mysql://localhost/x",
            "LOG_LEVEL": "loud",
            "LOG_FORMAT": "xml",
        }
        fresh.environment = {f"ENTREPOT_{name}": value for name, value in bad.items()}
        done = fresh.command("check-config", "--data", str(fresh.data))
        assert done.returncode == 2
        settings = [line.removeprefix("entrepot: ").split()[0].rstrip(":") for line in done.stderr.splitlines()]
        assert settings == [
            "server.bind",
            "builds.registry_address",
            "server.public_url",
            "server.threads",
            "worker.lease_seconds",
            "upstream.allowed_networks",
            "database.url",
            "log.level",
            "log.format",
        ]
        assert not fresh.data.exists()

    def test_data_where_nothing_can_be_written(self, fresh: Server):
        fresh.data.write_text("a file, and no directory")
        done = fresh.command("serve", "--data", str(fresh.data / "below"))
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1

    def test_the_master_key_of_other_data(self, fresh: Server, tmp_path: Path):
        other = Server(tmp_path / "other", with_worker=False)
        for server in (fresh, other):
            begin(server)
        kept = (fresh.data / "keys" / "master-keys.json").read_bytes()
        shutil.copy(other.data / "keys" / "master-keys.json", fresh.data / "keys" / "master-keys.json")
        needed, held = (
            json.loads(text)["current"] for text in (kept, (other.data / "keys/master-keys.json").read_text())
        )
        for command in ("serve", "migrate"):
            line = refused(fresh, command)
            assert f"the wrong master key: {needed} is needed" in line
            assert line.endswith(f"holds {held}")
        (fresh.data / "keys" / "master-keys.json").write_bytes(kept)
        fresh.start()

    @pytest.mark.parametrize("name", ["master-keys.json", "token-pepper"])
    def test_a_key_that_is_gone_is_not_made_anew(self, fresh: Server, name: str):
        begin(fresh)
        path = fresh.data / "keys" / name
        kept = path.rename(fresh.data / "kept")
        line = refused(fresh, "serve")
        assert f"{path} is missing" in line
        assert not path.exists()
        kept.rename(path)
        fresh.start()

    @pytest.mark.parametrize("command", ["serve", "worker"])
    def test_a_pepper_that_was_cut(self, fresh: Server, command: str):
        begin(fresh)
        (fresh.data / "keys" / "token-pepper").write_bytes(b"")
        assert refused(fresh, command).endswith("token-pepper has 0 bytes instead of 32")

    @pytest.mark.parametrize("command", ["serve", "migrate", "worker"])
    def test_the_database_of_a_newer_release(self, fresh: Server, command: str):
        begin(fresh)
        with sqlite3.connect(fresh.data / "entrepot.db") as connection:
            connection.execute("update alembic_version set version_num = '9999'")
        before = (fresh.data / "entrepot.db").read_bytes()
        line = refused(fresh, command)
        assert line.endswith("the database is at revision 9999, which this release does not know")
        assert (fresh.data / "entrepot.db").read_bytes() == before

    def test_a_worker_without_a_schema_says_what_to_do(self, fresh: Server):
        begin(fresh)
        (fresh.data / "entrepot.db").unlink()
        assert refused(fresh, "worker").endswith("run 'entrepot migrate'")

    @pytest.mark.parametrize("command", ["serve", "worker"])
    def test_a_database_that_is_away(self, fresh: Server, command: str):
        begin(fresh)
        secret = "dont-print-me"
        url = f"postgresql+psycopg://entrepot:{secret}@127.0.0.1:{free_port()}/entrepot"
        fresh.environment = {"ENTREPOT_DATABASE_URL": url}
        line = refused(fresh, command)
        assert "connection refused" in line.lower()
        assert secret not in line

    def test_check_config_prints_what_is_in_force_and_no_secret(self, fresh: Server):
        fresh.environment = {
            "ENTREPOT_DATABASE_URL": "postgresql+psycopg://entrepot:dont-print-me@db.example/entrepot",
            "ENTREPOT_SERVER_PUBLIC_URL": "https://packages.example",
        }
        done = fresh.command("check-config", "--data", str(fresh.data))
        assert done.returncode == 0, done.stderr
        assert "https://packages.example (listening on 127.0.0.1:8080)" in done.stdout
        assert "@db.example/entrepot" in done.stdout
        assert "dont-print-me" not in done.stdout
        assert "sqlite " not in done.stdout
        assert str(ROOT / "registry") in done.stdout
        assert not fresh.data.exists()

    def test_check_config_prints_which_sqlite_is_used_and_how(self, fresh: Server):
        done = fresh.command("check-config", "--data", str(fresh.data))
        assert done.returncode == 0, done.stderr
        assert f"sqlite    {sqlite3.sqlite_version}, journal mode {sqlite_journal_mode()}" in done.stdout


def test_a_start_that_was_killed_again_and_again_is_finished_by_the_next(fresh: Server):
    print(f"ENTREPOT_SEED={SEED}")
    moments = random.Random(SEED)
    done_by = set()
    for _ in range(KILLED_STARTS):
        command = [sys.executable, "-m", "config.cli.main", "migrate", "--data", str(fresh.data)]
        with subprocess.Popen(
            command, cwd=ROOT, env=fresh.child_environment(), stdout=subprocess.DEVNULL, start_new_session=True
        ) as starting:
            # The interesting time is from the first thing that is made to the last.
            with contextlib.suppress(AssertionError):
                processes.wait_until((fresh.data / "run").exists, seconds=20)
            time.sleep(moments.uniform(0, 0.5))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(starting.pid, signal.SIGKILL)
        done_by.add(starting.returncode)
        if starting.returncode == 0:
            shutil.rmtree(fresh.data)
    assert -signal.SIGKILL in done_by
    fresh.start()
    answer = publish(fresh, fresh.token(), "after-all")
    assert answer.status_code == 200, answer.text
    assert len(links(fresh)) == 1
    assert fresh.stop() == 0
    assert fresh.fsck() == ""


def test_a_worker_of_its_own_does_the_work_of_a_server_without_one(fresh: Server, tmp_path: Path):
    fresh.start()
    token = fresh.token()
    headers = {"Authorization": f"Bearer {token}"}
    document = """
pipeline:
  name: straight
  stages:
    - name: Source
      actions:
        - name: Package
          actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
          configuration: {Repository: dev, Format: pypi, Name: "*", SettleSeconds: "0"}
    - name: Promote
      actions:
        - name: ToProd
          actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote, version: "1"}
          configuration: {TargetRepository: prod}
"""
    applied = requests.put(f"{fresh.url}/api/v1/pipelines", json={"document": document}, headers=headers, timeout=10)
    assert applied.status_code < 300, applied.text
    wheel = packages.wheel("apart", "1.0")
    answer = publish(fresh, token, "apart", wheel=wheel)
    assert answer.status_code == 200, answer.text
    promoted = file_url(fresh, "prod", "apart", wheel[0])
    assert requests.get(promoted, headers=headers, timeout=10).status_code == 404

    command = [sys.executable, "-m", "config.cli.main", "worker", "--data", str(fresh.data)]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=ROOT, env=fresh.child_environment(), stdout=log, stderr=log)
    try:
        processes.wait_until(lambda: requests.get(promoted, headers=headers, timeout=10).status_code == 200)
        assert requests.get(promoted, headers=headers, timeout=10).content == wheel[1]
    finally:
        worker.terminate()
        assert worker.wait(60) == 0, (tmp_path / "worker.log").read_text()
    warned = (tmp_path / "worker.log").read_text().count("can lose commits in WAL mode")
    assert warned == int(sqlite_journal_mode() != "WAL")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'migrated.db'}"
        return
    if postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with postgres.shared().fresh_database() as url:
        yield url


class TestMigrations:
    def test_they_make_exactly_the_tables_of_the_models(self, database_url: str):
        from alembic import command

        config = migrate.alembic_config(database_url)
        command.upgrade(config, "head")
        command.check(config)  # raises when a migration is missing

    def test_control_a_difference_is_found(self, database_url: str):
        from alembic import command
        from alembic.util import AutogenerateDiffsDetected
        from sqlalchemy import text

        config = migrate.alembic_config(database_url)
        command.upgrade(config, "head")
        db = Database(database_url)
        with db.write() as session:
            session.execute(text("alter table account add column surplus integer"))
        db.close()
        with pytest.raises(AutogenerateDiffsDetected, match="surplus"):
            command.check(config)

    def test_down_to_nothing_and_up_again(self, database_url: str):
        from alembic import command
        from sqlalchemy import inspect

        def tables() -> set[str]:
            db = Database(database_url)
            try:
                return set(inspect(db.engine).get_table_names())
            finally:
                db.close()

        config = migrate.alembic_config(database_url)
        command.upgrade(config, "head")
        whole = tables()
        assert {"account", "package", "job", "pipeline"} <= whole
        command.downgrade(config, "base")
        assert tables() == {"alembic_version"}
        command.upgrade(config, "head")
        assert tables() == whole
        command.check(config)

    def test_what_hangs_on_a_table_that_is_made_anew_stays(self, fresh: Server):
        from alembic import command

        def counts() -> dict[str, int]:
            with sqlite3.connect(fresh.data / "entrepot.db") as connection:
                return {
                    name: connection.execute(f"select count(*) from {name}").fetchone()[0]
                    for name in ("domain", "repository", "account", "domain_key", "repository_upstream", "token")
                }

        fresh.start()
        fresh.token()
        assert fresh.stop() == 0
        config = migrate.alembic_config(f"sqlite:///{fresh.data / 'entrepot.db'}")
        before = counts()
        assert min(before.values()) > 0
        command.downgrade(config, "0016")  # takes columns from the tables of domains, repositories and accounts
        assert counts() == before
        command.upgrade(config, "head")
        assert counts() == before


def test_two_machines_may_start_at_the_same_time_on_one_database(tmp_path: Path):
    if postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with postgres.shared().fresh_database() as url:
        environment = {"ENTREPOT_DATABASE_URL": url, "ENTREPOT_STORAGE_KEYS_PATH": str(tmp_path / "keys")}
        machines = [Server(tmp_path / name, environment=environment) for name in ("one", "two", "three")]
        ends: list[subprocess.CompletedProcess[str]] = []
        threads = [
            threading.Thread(target=lambda m=machine: ends.append(m.command("migrate", "--data", str(m.data))))
            for machine in machines
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [(done.returncode, done.stderr) for done in ends] == [(0, "")] * 3
