"""A real ``entrepot serve`` on loopback, for tests: started, asked, stopped, and killed without mercy."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import requests

from config import wiring
from config.settings import load
from registry import audit
from registry.accounts import find_account
from registry.clock import system_clock
from tests.harness.first_data import put_migrated_database
from tests.harness.zygote import Forked, zygote

ROOT = Path(__file__).resolve().parents[2]
READY = "Entrepot serves "


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One server process group over one data directory."""

    def __init__(
        self,
        data: Path,
        *,
        with_worker: bool = True,
        environment: dict[str, str] | None = None,
        web_processes: int = 2,
        by_command: bool = False,
        from_nothing: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        """With ``by_command`` it is started by a command of its own, as people do, and not by a fork (``zygote``).

        With ``from_nothing`` its first start makes the database as well. ``host`` is the address that it listens at.
        """
        self.data = data
        self.host = host
        self.port = free_port()
        self.with_worker = with_worker
        self.environment = environment or {}
        self.web_processes = web_processes
        self.by_command = by_command
        self.from_nothing = from_nothing
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.log = data.parent / f"{data.name}.log"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def index(self, repository: str = "dev", *, token: str | None = None, simple: bool = True) -> str:
        credential = f"alice:{token}@" if token else ""
        suffix = "simple/" if simple else ""
        return f"http://{credential}{self.host}:{self.port}/pypi/default/{repository}/{suffix}"

    def start(self) -> "Server":
        arguments = ["serve", "--data", str(self.data), "--bind", f"{self.host}:{self.port}"]
        arguments += ["--workers", str(self.web_processes)]
        if not self.with_worker:
            arguments.append("--no-worker")
        said = self.log_text().count(READY)
        if self.by_command:
            command = [sys.executable, "-m", "config.cli.main", *arguments]
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    command, cwd=ROOT, env=self.child_environment(), stdout=log, stderr=log, start_new_session=True
                )
        else:
            if not self.from_nothing and "ENTREPOT_DATABASE_URL" not in self.environment:
                put_migrated_database(self.data)
            self.process = zygote().start(arguments, self.child_environment(), self.log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log_text()}")
            # It answers first and says so then: whoever asks the log, or sends a signal, wants both.
            with contextlib.suppress(requests.RequestException):
                if (
                    requests.get(f"{self.url}/readyz", timeout=2).status_code == 200
                    and self.log_text().count(READY) > said
                ):
                    return self
            time.sleep(0.05)
        raise AssertionError(f"the server is not ready:\n{self.log_text()}")

    def child_environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ENTREPOT_", "PIP_"))}
        return {**clean, "ENTREPOT_UPSTREAM_ALLOWED_NETWORKS": "127.0.0.0/8", **self.environment}

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def stop(self) -> int:
        """End it as an operator would; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.process = None
        return status

    def kill(self) -> None:
        """kill -9 of the process group: supervisor, web processes and worker, at one moment.

        Running builds have sessions of their own and are not reached. They are the product's to end once their worker
        is gone, and a test that wants to see that must not have them killed here.
        """
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # it ended by itself, and nothing of its group is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)
        self.process = None

    def command(
        self,
        *arguments: str,
        environment: dict[str, str] | None = None,
        input: str | None = None,  # noqa: A002  (as subprocess.run has it)
    ) -> subprocess.CompletedProcess[str]:
        """Run an ``entrepot`` command, with more in its environment; by a fork, as the server (see ``by_command``)."""
        wanted, seconds = {**self.child_environment(), **(environment or {})}, 120
        if not self.by_command:
            return zygote().run(list(arguments), wanted, seconds, input or "")
        command = [sys.executable, "-m", "config.cli.main", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=wanted, input=input, capture_output=True, text=True, timeout=seconds, check=False
        )

    def token(self, user: str = "admin", *actions: str, repositories: tuple[str, ...] = ()) -> str:
        """A new token, made as ``entrepot token new --data`` makes it, but without a process of its own."""
        settings = load(self.data, self.child_environment())
        if not (settings.keys_path / wiring.PEPPER_FILE).exists():
            done = self.command("migrate", "--data", str(self.data))
            assert done.returncode == 0, done.stderr
        people, db, now = wiring.accounts(settings), wiring.database(settings), system_clock()
        try:
            with db.write() as session:
                account = find_account(session, user)
                issued = people.issue_token(
                    session,
                    account.id,
                    f"of a test {secrets.token_hex(2)}",
                    actions=actions or account.actions,
                    repositories=[name if "/" in name else f"default/{name}" for name in repositories] or None,
                    life=timedelta(hours=12),
                    now=now,
                )
                audit.record(session, now, "machine administrator", "token.create", f"{user}/{issued.id}")
            return issued.secret
        finally:
            db.close()

    def fsck(self) -> str:
        """Faults found by a deep check; empty when clean."""
        done = self.command("fsck", "--data", str(self.data), "--deep")
        return "" if done.returncode == 0 else done.stdout + done.stderr
