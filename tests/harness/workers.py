"""``entrepot worker`` over a server's data, for tests: started, killed, frozen for longer than its leases, and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass

from tests.harness.server import Server
from tests.harness.zygote import Forked, zygote


@dataclass
class Worker:
    """A worker that is not the server's own."""

    server: Server
    process: Forked | None = None

    def start(self) -> None:
        arguments = ["worker", "--data", str(self.server.data)]
        self.process = zygote().start(arguments, self.server.child_environment(), self.server.log)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
            self.process = None

    def freeze(self, seconds: float) -> None:
        """Let it sleep through its lease and come back as if nothing had been."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.process = None
