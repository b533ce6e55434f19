"""gunicorn's settings, each with its reason."""

from __future__ import annotations

import gc
import importlib
import os
from pathlib import Path
from typing import Any

from config import client_socket, gunicorn_worker
from config.settings import load

_settings = load(Path(os.environ["ENTREPOT_DATA"]))

# The supervisor's --bind hands over its own socket and wins over this one, which is for a gunicorn without supervisor.
bind = [_settings.server.bind]
workers = _settings.server.workers
# Threads, because a download holds one as long as it lasts, and because the sync worker is killed in the middle of any
# upload slower than its time-out (measured).
worker_class = "config.gunicorn_worker.DrainingWorker"
threads = _settings.server.threads
graceful_timeout = _settings.server.graceful_timeout_seconds
timeout = 120
# Longer than nginx leaves a connection idle (60 s), and than clients mostly do between two questions: who writes to a
# connection at the moment it is closed gets a reset instead of an answer.
keepalive = 75
# Long search queries and deep paths; OIDC bearer headers.
limit_request_line = 8190
limit_request_field_size = 32768
# On by default since 25.1, at a path in $HOME that all instances of one user would share.
control_socket_disable = True
# Whom to believe about the outer address is ``trusted_proxy_hops`` alone. By default gunicorn lets everybody who connects
# over loopback, which is each client of a proxy on this machine, choose scheme and path prefix by a header.
forwarded_allow_ips = ""
# The heartbeat file on a disk can block a worker for as long as the disk does.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "entrepot-web"


client_socket.be_patient_for(_settings.server.client_patience_seconds)


def on_starting(arbiter: Any) -> None:
    """Import in the master what each worker needs, and no more: they start sooner, share its memory, open their own."""
    gunicorn_worker.keep_signals_for_workers()
    if arbiter.app.app_uri.startswith("config."):  # these settings serve other applications as well, to be compared
        importlib.import_module("config.app").import_all()


def post_worker_init(_worker: Any) -> None:
    """Leave what was imported out of all collections: it stays, and looking at it was a fifth of a cold install's work.

    Without a collection before: that would write to all that is shared with the other processes.
    """
    gc.freeze()
