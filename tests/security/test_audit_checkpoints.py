"""L2: checkpoints of the audit log leave the server, and the commands find with them what the chain alone does not show."""

import base64
import json
import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.cli.main import main
from registry import audit, audit_chain
from registry.audit_chain import canonical, moment
from registry.db import Database
from registry.errors import Invalid
from registry.repos import audit_log, checkpoints
from registry.repos.checkpoints import MARK, Checkpoint
from tests.harness.processes import wait_until
from tests.harness.server import Server


class Receiver:
    """Takes checkpoints over HTTP, but answers the first request with 500."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(500 if len(receiver.bodies) == 1 else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/checkpoints"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def own_process_state() -> Iterator[None]:
    """What a command sets for its process, put back as it was."""
    root, mask = logging.getLogger(), os.umask(0o077)
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        os.umask(mask)
        root.handlers[:] = handlers
        root.setLevel(level)


class Place:
    """A data directory that a server worked on, and what it pushed out, kept where the server's enemies are not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pushed = folder / "pushed.jsonl"
        self.key = folder / "audit.pem"
        self.exported = folder / "export.jsonl"
        self.receiver = Receiver()
        self.server = Server(
            folder / "data",
            environment={
                "ENTREPOT_AUDIT_CHECKPOINT_MINUTES": "0.01",
                "ENTREPOT_AUDIT_CHECKPOINT_FILE": str(self.pushed),
                "ENTREPOT_AUDIT_CHECKPOINT_URL": self.receiver.url,
            },
        )

    def run(self, *words: str, data: Path | None = None, status: int = 0) -> str:
        """The command, in this process: starting one for each takes longer than all they do."""
        with own_process_state():
            done = CliRunner().invoke(main, ["audit", *words, *(["--data", str(data)] if data else [])])
        assert done.exit_code == status, done.output
        return done.stdout or done.stderr

    def verify(self, data: Path, *words: str, status: int) -> str:
        given = ("--checkpoints", str(self.pushed), "--public-key", str(self.key))
        return self.run("verify", *(words or given), data=data, status=status)

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.server.data, self.folder / name))


def attack(data: Path, *statements: str) -> None:
    with sqlite3.connect(data / "entrepot.db") as connection:
        for name in ("no_update", "no_delete", "no_replace"):
            connection.execute(f"DROP TRIGGER audit_entry_{name}")
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("checkpoints"))
    made.server.start()
    token = made.server.token("admin")
    wait_until(lambda: len(made.receiver.bodies) >= 2)
    last = made.server.token("admin", "read")
    assert token != last
    wait_until(lambda: [json.loads(line)["seq"] for line in made.pushed.read_text().splitlines()][-1] == 5)
    wait_until(lambda: json.loads(made.receiver.bodies[-1])["seq"] == 5)
    made.server.stop()
    made.key.write_text(made.run("public-key", data=made.server.data))
    exported = made.server.command("audit", "export", "--data", str(made.server.data))
    assert exported.returncode == 0, exported.stderr
    made.exported.write_text(exported.stdout)
    yield made
    made.receiver.close()
    made.server.kill()


def test_checkpoints_are_pushed_by_the_worker_and_again_after_a_failure(place: Place) -> None:
    in_file, received = place.pushed.read_text().splitlines(), [body.decode() for body in place.receiver.bodies]
    assert received[0] == received[1], "the one that was answered with 500 comes again"
    assert set(in_file) == set(received)
    in_log = [checkpoint.line for checkpoint in checkpoints.read_lines(place.server.log_text().splitlines())]
    assert set(in_log) == set(in_file)
    assert "could not be pushed" in place.server.log_text()
    key = checkpoints.load_public_key(place.key.read_bytes())
    assert all(checkpoints.is_signed_by(point, key) for point in checkpoints.read_lines(in_file))


def test_a_sound_log_is_called_sound(place: Place) -> None:
    assert "entries 1 to 5 are sound" in place.verify(place.server.data, status=0)
    found = json.loads(place.run("verify", "--json", data=place.server.data))
    assert (found["isSound"], found["last"], found["badEntry"]) == (True, 5, None)


def test_L2_truncation_is_found_with_the_pushed_checkpoint(place: Place) -> None:
    data = place.copy("truncated")
    attack(data, "DELETE FROM audit_entry WHERE seq > 4", "DELETE FROM audit_checkpoint WHERE seq > 4")
    assert "sound" in place.run("verify", data=data)  # the negative control: nothing on the server itself shows it
    assert place.verify(data, status=1).startswith("entry 5 is bad: the log ends with entry 4, but a checkpoint")


def test_L2_a_log_written_anew_is_found_with_the_pushed_checkpoint(place: Place) -> None:
    data = place.copy("anew")
    db = Database(f"sqlite:///{data / 'entrepot.db'}")
    links = [replace(link, actor="eve") for link in audit_log.export(db)]
    attack(data, "DELETE FROM audit_entry", "DELETE FROM audit_checkpoint")
    with db.write() as session:
        audit.append(session, links)
    db.close()
    assert "sound" in place.run("verify", data=data)  # the negative control
    assert "is bad" in place.verify(data, status=1)


def test_L2_a_forged_checkpoint_is_found(place: Place, tmp_path: Path) -> None:
    """Somebody signs what suits them, with a key of their own, and puts it among the others."""
    real = checkpoints.read_lines(place.pushed.read_text().splitlines())[-1]
    forged = replace(real, seq=4, hash="0" * 64)
    message = b"entrepot audit checkpoint v1\n" + canonical(
        {"seq": forged.seq, "hash": forged.hash, "at": moment(forged.at)}
    )
    forged = replace(forged, signature=base64.b64encode(Ed25519PrivateKey.generate().sign(message)).decode())
    for number, checkpoint in enumerate((forged, replace(real, seq=4), replace(real, signature="AAAA"))):
        file = tmp_path / f"{number}.jsonl"
        file.write_text(f"{real.line}\n{checkpoint.line}\n")
        told = place.run(
            "verify", "--checkpoints", str(file), "--public-key", str(place.key), data=place.server.data, status=1
        )
        assert "forged" in told
    file.write_text(real.line + "\n")
    assert "sound" in place.run("verify", "--checkpoints", str(file), data=place.server.data)  # the control


def test_L2_an_edit_is_named(place: Place) -> None:
    data = place.copy("edited")
    attack(data, "UPDATE audit_entry SET actor = 'eve' WHERE seq = 2")
    assert place.run("verify", data=data, status=1).startswith("entry 2 is bad: ")
    for where, status, says in ((data, 1, "I7\tentry 2 says something else"), (place.server.data, 0, "clean")):
        with own_process_state():
            checked = CliRunner().invoke(main, ["fsck", "--data", str(where)])
        assert (checked.exit_code, says in checked.output) == (status, True), checked.output


def test_an_export_is_verified_without_the_server(place: Place, tmp_path: Path) -> None:
    key = ("--public-key", str(place.key), "--checkpoints", str(place.pushed))
    assert "entries 1 to 5 are sound" in place.run("verify", "--file", str(place.exported), *key)
    lines = place.exported.read_text().splitlines(keepends=True)
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4, 5]
    changes = {
        1: [line.replace('"actor":"first start"', '"actor":"eve"') for line in lines],
        2: [lines[0], lines[2], lines[1], *lines[3:]],
        3: [*lines[:2], *lines[3:]],
        4: [*lines[:3], "{}\n", *lines[4:]],
        5: [*lines[:4], lines[4].replace("{", '{"actor":"eve",', 1)],
    }
    for bad, changed in changes.items():
        file = tmp_path / f"{bad}.jsonl"
        file.write_text("".join(changed))
        assert place.run("verify", "--file", str(file), *key, status=1).startswith(f"entry {bad} is bad"), bad
    part = tmp_path / "part.jsonl"
    part.write_text("".join(lines[2:4]))
    assert "entries 3 to 4 are sound" in place.run("verify", "--file", str(part), *key)
    assert "--public-key is needed" in place.run("verify", "--file", str(part), *key[2:], status=2)


def test_an_export_can_be_of_some_days_only(place: Place) -> None:
    assert place.run("export", "--until", "2001-01-01", data=place.server.data) == ""
    assert place.run("export", "--since", "2001-01-01", data=place.server.data) == place.exported.read_text()
    assert "is no moment" in place.run("export", "--since", "yesterday", data=place.server.data, status=2)


def test_checkpoint_by_hand_signs_what_is_new(place: Place) -> None:
    data = place.copy("by-hand")
    said = place.run("checkpoint", data=data).splitlines()[-1]
    assert json.loads(said)["seq"] == 5  # nothing is new
    db = Database(f"sqlite:///{data / 'entrepot.db'}")
    with db.write() as session:
        audit.record(session, datetime.now(UTC), "ada", "test.write", "x")
    db.close()
    said = place.run("checkpoint", data=data).splitlines()[-1]
    (point,) = checkpoints.read_lines([said])
    assert point.seq == 6
    assert checkpoints.is_signed_by(point, checkpoints.load_public_key(place.key.read_bytes()))


def test_lines_of_the_log_output_are_read_as_checkpoints() -> None:
    point = Checkpoint(3, "ab" * 32, datetime(2026, 1, 1, tzinfo=UTC), "SHA256:x", "AAAA")
    lines = [
        "2026-01-01T00:00:00Z info entrepot.http: something else",
        f"2026-01-01T00:00:00Z info entrepot.audit: {MARK}{point.line}",
        json.dumps({"at": "x", "level": "info", "message": f"{MARK}{point.line}"}),
        json.dumps({"at": "x", "message": "something else"}),
        point.line,
        "",
    ]
    assert checkpoints.read_lines(lines) == [point] * 3
    for broken in ('{"seq": 1}', "{", f"{MARK}no json", point.line.replace("3", '"x"', 1)):
        with pytest.raises(Invalid):
            checkpoints.read_lines([broken])


def test_lines_that_are_no_export_are_refused() -> None:
    link = audit_chain.Link(1, datetime(2026, 1, 1, tzinfo=UTC), "ada", "test.write", "x")
    link = replace(link, hash=audit_chain.hash_of(link))
    line = audit_chain.line(link)
    assert audit_chain.parse_line(line) == link
    for broken in (
        "",
        "[]",
        "null",
        "{}",
        line[:-1],
        line + " ",
        line.replace(":", ": ", 1),
        line.replace("1", "true", 1),
    ):
        with pytest.raises(Invalid):
            audit_chain.parse_line(broken)
