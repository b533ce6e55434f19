"""What gunicorn loads: one application for each worker process, made after the fork."""

from __future__ import annotations

import os
from pathlib import Path

from config import logs
from config.app import create_app
from config.settings import load

_settings = load(Path(os.environ["ENTREPOT_DATA"]))
logs.configure(_settings.log)
app = create_app(_settings)
