"""Where checkpoints of the audit log go: a file, the log output, a URL. Each takes one line of JSON."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import requests

from registry.repos.checkpoints import MARK, Sink

log = logging.getLogger("entrepot.audit")

_TIMEOUT_SECONDS = 10.0


def to_file(path: Path) -> Sink:
    """Append to a file, durably. Meant for a disk that this server's account may add to and not rewrite."""

    def push(line: str) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # One write, so that two workers never mix their lines.
            os.write(handle, line.encode("ascii") + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)

    return push


def to_log(line: str) -> None:
    """Write to the log output."""
    log.info("%s%s", MARK, line)


def to_url(url: str, ca_bundle: str | None = None) -> Sink:
    """POST to a URL, as JSON; any answer but a 2xx is a failure, a redirect as well."""

    def push(line: str) -> None:
        answer = requests.post(
            url,
            data=line.encode("ascii"),
            headers={"Content-Type": "application/json"},
            timeout=_TIMEOUT_SECONDS,
            allow_redirects=False,
            verify=ca_bundle or True,
        )
        if not 200 <= answer.status_code < 300:
            raise ConnectionError(f"the receiver of checkpoints answered {answer.status_code}")

    return push
