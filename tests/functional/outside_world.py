"""The world in this process with an outside: repositories whose external connections are misbehaving servers here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from werkzeug.test import TestResponse

from tests.fakes.upstream import FaultyUpstream
from tests.functional.api_world import World

JSON_INDEX = "application/vnd.pypi.simple.v1+json"
PATIENT = {
    "ENTREPOT_UPSTREAM_ALLOWED_NETWORKS": "127.0.0.0/8",
    "ENTREPOT_UPSTREAM_URLS": "pypi=http://127.0.0.1:9/simple/,generic=http://127.0.0.1:9/",
}


class OutsideWorld(World):
    """``public`` has one connection ``public`` for Python packages; ``dev`` asks ``public``."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, {**PATIENT, **(environment or {})})

    def connect(self, upstream: FaultyUpstream, name: str = "outside", repository: str = "public", **body: Any) -> None:
        """Add a connection for Python packages to ``upstream``."""
        sent = {"format": "pypi", "name": name, "url": f"{upstream.url}/simple/", **body}
        answer = self.call("POST", f"/domains/default/repositories/{repository}/connections", json=sent)
        assert answer.status_code == 201, answer.text

    def disconnect(self, name: str = "public", repository: str = "public", format_name: str = "pypi") -> None:
        where = f"/domains/default/repositories/{repository}/connections/{format_name}/{name}"
        answer = self.call("DELETE", where)
        assert answer.status_code == 204, answer.text

    def connections(self, repository: str = "public") -> list[dict[str, Any]]:
        return self.call("GET", f"/domains/default/repositories/{repository}/connections").json["items"]

    def get(self, path: str, *, as_: str = "admin", **headers: str) -> TestResponse:
        """Ask a format's route, ``pypi/default/dev/…``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.get(f"/{path}", headers={"Authorization": f"Bearer {self.tokens[as_]}", **sent})

    def versions(self, name: str, repository: str = "dev") -> list[str]:
        answer = self.get(f"pypi/default/{repository}/simple/{name}/", Accept=JSON_INDEX)
        assert answer.status_code == 200, answer.text
        return answer.json["versions"]
