"""Packages deployed without a bundle: a machine's side of it, against a real server."""

from __future__ import annotations

import hashlib
import importlib
import io
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hooks.deployments.documents.native import parse_native
from hooks.deployments.host import bundle
from hooks.deployments.host.deployment import Deployment, HostDeployment
from hooks.deployments.host.local import deploy
from hooks.deployments.host.native import NativePackage, Sources, make_bundle
from hooks.deployments.host.script_log import ScriptLog
from hooks.deployments.host.scripts import ScriptSettings
from hooks.deployments.host.state import GroupState
from hooks.deployments.lifecycle import Course
from hooks.deployments.outcomes import EventResult
from registry.clock import system_clock
from registry.native import NativeVersion
from tests.harness import packages

WEB = """
import http.server, sys

import shop_lib
from shop_web import __version__

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"shop {__version__} with {shop_lib.__version__} from {__file__}".encode())

    def log_message(self, *_):
        pass

def main():
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
"""


def shop(version: str, web: str = WEB) -> tuple[str, bytes]:
    """A wheel of a small web application with a command, and a library that it needs."""
    files = {
        "shop_web/web.py": web.encode(),
        f"shop_web-{version}.dist-info/entry_points.txt": b"[console_scripts]\nshop-web = shop_web.web:main\n",
    }
    return packages.wheel("shop-web", version, requires=("shop-lib>=1",), files=files)


_JAVA = """package acme;

public class Shop {
    public static void main(String[] words) {
        System.out.println("shop " + told() + " with " + new Words().told() + " " + System.getProperty("mode") + " "
            + String.join(",", words));
    }

    static String told() {
        return Shop.class.getPackage().getImplementationVersion();
    }
}
"""
_WORDS = """package acme;

public class Words {
    public String told() {
        return new java.util.Scanner(Words.class.getResourceAsStream("/words.txt")).next();
    }
}
"""


def java_shop(folder: Path) -> Callable[[str], bytes]:
    """A small Java application and a library that it needs, compiled: the jar of each (``Shop:1.0``, ``Words:1.5``)."""
    sources = {"Shop": _JAVA, "Words": _WORDS}
    for name, text in sources.items():
        (folder / f"{name}.java").write_text(text)
    flags = ["-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-d", str(folder)]
    paths = [str(folder / f"{name}.java") for name in sources]
    subprocess.run(["javac", *flags, *paths], check=True, capture_output=True)

    def jar(called: str) -> bytes:
        name, version = called.split(":")
        manifest = f"Manifest-Version: 1.0\nImplementation-Version: {version}\n"
        manifest += "Main-Class: acme.Shop\n" if name == "Shop" else ""
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as archive:
            archive.writestr("META-INF/MANIFEST.MF", f"{manifest}\n")
            archive.write(folder / "acme" / f"{name}.class", f"acme/{name}.class")
            if name == "Words":
                archive.writestr("words.txt", version)
        return body.getvalue()

    return jar


@dataclass
class Place:
    """A machine with one deployment group of native packages; ``bodies`` are the files that it is sent, by name."""

    root: Path
    url: str
    token: str
    format: str
    document: Mapping[str, Any]
    bodies: dict[str, bytes] = field(default_factory=dict)

    @property
    def state(self) -> GroupState:
        state = GroupState(self.root / "state", "g")
        state.prepare()
        return state

    def package(self, name: str, version: str, *files: tuple[str, bytes], namespace: str = "") -> NativePackage:
        """A version as a revision pins it: the machine is sent these files."""
        self.bodies |= dict(files)
        pinned = {filename: hashlib.sha256(body).hexdigest() for filename, body in files}
        repository = f"{self.url}/{self.format}/default/dev/"
        return NativePackage(NativeVersion(namespace, name, version), pinned, repository, parse_native(self.document))

    def host(self, deployment_id: str, package: NativePackage) -> HostDeployment:
        installer = importlib.import_module(f"registry.formats.{self.format}.native").INSTALLER

        def fetch(name: str, path: Path) -> None:
            path.write_bytes(self.bodies[name])

        def made(into: Path) -> bundle.Made:
            log = ScriptLog(into.parent / "logs" / "native.log", system_clock, lambda _: None)
            try:
                return make_bundle(package, installer, Sources(fetch, lambda: self.token), into, log)
            finally:
                log.close()

        wanted = Deployment(deployment_id, "g", "g", "shop", Course.IN_PLACE.events, link=str(self.document["link"]))
        return HostDeployment(wanted, self.state, made, ScriptSettings(), system_clock, lambda _: None)

    def deploy(self, deployment_id: str, package: NativePackage) -> dict[str, EventResult]:
        with self.state.locked():
            results = deploy(self.host(deployment_id, package), lambda _: None)
        return {result.event: result for result in results}
