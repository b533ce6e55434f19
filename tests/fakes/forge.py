"""A git server on loopback: real git behind Basic authorization, with a record of what was asked."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "PATH": "/usr/bin:/bin",
}


def git(place: Path, *words: str, **environment: str) -> str:
    """Run git in ``place``; its output."""
    command = ["git", "-c", "protocol.file.allow=always", *words]
    done = subprocess.run(command, cwd=place, env={**IDENTITY, **environment}, check=True, capture_output=True)
    return done.stdout.decode().strip()


class Repository:
    """A bare repository and a clone of it to work in."""

    def __init__(self, root: Path, name: str) -> None:
        self.bare = root / f"{name}.git"
        self.work = root / f"{name}.work"
        git(root, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        git(self.bare, "config", "http.receivepack", "false")
        git(root, "init", "--quiet", "--initial-branch=main", str(self.work))
        git(self.work, "remote", "add", "origin", str(self.bare))

    def commit(self, files: Mapping[str, str], message: str = "change", branch: str = "main", tag: str = "") -> str:
        """Commit files on a branch and push it; the commit."""
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "-m", message)
        if tag:
            git(self.work, "tag", tag)
        git(self.work, "push", "--quiet", "--force", "--tags", "origin", f"HEAD:refs/heads/{branch}")
        return git(self.work, "rev-parse", "HEAD")


class Forge:
    """Serves the repositories below ``root``. ``credentials`` is path of a repository → (user, password) it wants."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.credentials: dict[str, tuple[str, str]] = {}
        self.sent: list[tuple[str, str]] = []
        """(path, user:password that came along) of every request."""
        forge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

            def _serve(self) -> None:
                path, _, query = self.path.partition("?")
                scheme, _, coded = self.headers.get("Authorization", "").partition(" ")
                given = base64.b64decode(coded).decode() if scheme == "Basic" else ""
                forge.sent.append((path, given))
                repository = path.lstrip("/").partition("/")[0]
                body = self._body()
                wanted = forge.credentials.get(repository)
                if wanted is not None and given != ":".join(wanted):
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="forge"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                environment = {
                    **IDENTITY,
                    "GIT_PROJECT_ROOT": str(forge.root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_CONFIG_COUNT": "1",
                    "GIT_CONFIG_KEY_0": "safe.directory",
                    "GIT_CONFIG_VALUE_0": "*",
                }
                done = subprocess.run(
                    ["git", "http-backend"], input=body, env=environment, check=False, capture_output=True
                )
                head, _, rest = done.stdout.partition(b"\r\n\r\n")
                fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
                self.send_response(int(fields.pop("Status", "200").split()[0]))
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "") == "chunked":
                    pieces = []
                    while size := int(self.rfile.readline(), 16):
                        pieces.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(pieces)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def forge(root: Path) -> Iterator[Forge]:
    """A running one."""
    found = Forge(root)
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        found.server.server_close()
        thread.join()
