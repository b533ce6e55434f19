"""What gunicorn loads: one application for each worker process, made after the fork."""

from __future__ import annotations

import os
from pathlib import Path

from config import logs, wiring
from config.app import create_app
from config.settings import load

_settings = load(Path(os.environ["ENTREPOT_DATA"]))
logs.configure(_settings.log)
_services = wiring.services(_settings)
_services.stores.warm()
app = create_app(_settings, _services)
