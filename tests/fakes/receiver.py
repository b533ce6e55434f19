"""A real receiver of webhooks in a process of its own: what it answers is in the path, what it got is in a file.

with Receiver(tmp_path) as receiver:
    url = receiver.url("/ok")             # 200 at once
    … "/status/500"  "/flaky/2" (500 twice for each webhook-id, then 200)  "/gone"  "/slow/20" (seconds)
    "/reset"  "/huge"  "/to?http://…" (302)  "/busy/30" (429 with Retry-After)  "/text/<b>" (200 with that body)
    "/hold" (200 once the file ``release`` is there)
    receiver.got()                        # list of Got, in the order of arrival
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict:
        return json.loads(self.body)


class Receiver:
    """The process, as its user sees it."""

    def __init__(self, folder: Path, name: str = "receiver") -> None:
        self.folder = folder
        self._log = folder / f"{name}.jsonl"
        self.release = folder / f"{name}.release"
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        command = [sys.executable, __file__, str(self._log), str(self.release), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def url(self, path: str = "/ok", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def got(self) -> list[Got]:
        if not self._log.exists():
            return []
        found = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [Got(entry["path"], entry["headers"], base64.b64decode(entry["body"]), entry["at"]) for entry in found]

    def forget(self) -> None:
        """Begin a new list, and hold again."""
        for path in (self._log, self.release):
            path.unlink(missing_ok=True)

    def wait(self, enough: Callable[[list[Got]], bool], seconds: float = 60) -> list[Got]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            got = self.got()
            if enough(got):
                return got
            time.sleep(0.02)
        raise AssertionError(f"not received in {seconds} s: {[entry.path for entry in self.got()]}")


def main() -> None:
    """Serve until killed."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    log, release, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    lock = threading.Lock()
    seen: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            entry = {
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": base64.b64encode(body).decode(),
                "at": time.time(),
            }
            with lock:
                key = self.headers.get("webhook-id", "")
                seen[key] = seen.get(key, 0) + 1
                times = seen[key]
                with log.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
            word, _, rest = self.path[1:].partition("/")
            word, _, _query = word.partition("?")
            if word == "flaky":
                self.answer(500 if times <= int(rest) else 200)
            elif word == "status":
                self.answer(int(rest))
            elif word == "gone":
                self.answer(410)
            elif word == "busy":
                self.answer(429, {"Retry-After": rest})
            elif word == "to":
                self.answer(302, {"Location": self.path.partition("?")[2]})
            elif word == "text":
                self.answer(200, body=rest.encode())
            elif word == "slow":
                time.sleep(float(rest))
                self.answer(200)
            elif word == "hold":
                while not release.exists():
                    time.sleep(0.01)
                self.answer(200)
            elif word == "drip":
                self.drip()
            elif word == "huge":
                self.huge()
            elif word == "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True
            else:
                self.answer(200)

        do_GET = do_POST

        def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"said") -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def drip(self) -> None:
            """A head that never ends, a byte at a time: a plain socket time-out would start anew with each."""
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while True:
                self.wfile.write(b"x")
                time.sleep(0.2)

        def huge(self) -> None:
            """Ten gigabytes are announced; how much was taken is written down when the receiver stops reading."""
            self.send_response(200)
            self.send_header("Content-Length", str(10 * 1000**3))
            self.end_headers()
            sent = 0
            with contextlib.suppress(OSError):
                while sent < 200 * 1000**2:
                    sent += self.connection.send(b"x" * 65536)
            with lock, log.with_suffix(".taken").open("a") as file:
                file.write(f"{sent}\n")
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the sender hung up
                super().handle()

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", port), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
