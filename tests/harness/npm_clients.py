"""npm as it is on this machine, and other clients installed by it once: each run with a home of its own."""

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.harness.clients import Clients, Done

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "entrepot-tests" / "js"
PNPM, YARN_CLASSIC, YARN_BERRY = "pnpm@10", "yarn@1", "@yarnpkg/cli-dist@4"
NPM_10, NPM_12, BUN, DENO = "npm@10", "npm@12", "bun@1", "deno@2"
# npm 12 takes no older one, and the machine's may be.
NODE = f"node-linux-{'arm64' if platform.machine() == 'aarch64' else 'x64'}@24"
_PROGRAMS = {
    **dict.fromkeys((NPM_10, NPM_12), "node_modules/npm/bin/npm-cli.js"),
    BUN: "node_modules/bun/bin/bun.exe",
    DENO: "node_modules/deno/bin.cjs",
    NODE: f"node_modules/{NODE.partition('@')[0]}/bin/node",
    PNPM: "node_modules/pnpm/bin/pnpm.cjs",
    YARN_CLASSIC: "node_modules/yarn/bin/yarn.js",
    YARN_BERRY: "node_modules/@yarnpkg/cli-dist/bin/yarn.js",
}
# npm asks Sigstore's trust root for keys before it asks the registry; there is no such host in a test. Here the root
# answers what it answers of every registry but the public one: that it knows no keys of it.
_NO_TRUST_ROOT = """
const Module = require('node:module');
const load = Module._load;
Module._load = function (name, ...rest) {
  if (name !== '@sigstore/tuf') return load.call(this, name, ...rest);
  const unknown = Object.assign(new Error('no such target'), { code: 'TUF_FIND_TARGET_ERROR' });
  return { initTUF: async () => ({ getTarget: async () => { throw unknown; } }) };
};
"""


def installed(client: str) -> list[str]:
    """The command of a client, installed from the machine's own registry if it is not there yet. Raises AssertionError."""
    folder = CACHE / client.replace("/", "+")
    program = folder / _PROGRAMS[client]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            (folder / "package.json").write_text("{}")
            command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", client]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    if client in (BUN, NODE):
        return [str(program)]
    return [*(installed(NODE) if client == NPM_12 else ["node"]), str(program)]


class NpmClients(Clients):
    """The clients of one person, whose configuration points at one repository."""

    def __init__(self, home: Path, registry: str, token: str | None) -> None:
        super().__init__(home)
        self.registry = registry
        self.point_at(registry, token)

    def point_at(self, registry: str, token: str | None) -> None:
        """Write the configuration as ``entrepot login`` would."""
        from registry.format import LoginTarget
        from registry.formats.npm.login import TOOLS

        self.registry = registry
        paths = TOOLS["yarn"].files(self.home, {})
        planned = TOOLS["yarn"].plan(dict.fromkeys(paths), LoginTarget(registry, "alice", token or "none"))
        for path, text in planned.items():
            path.write_text(text if token else "".join(line for line in text.splitlines(True) if "oken" not in line))

    def environment(self, **more: str) -> dict[str, str]:
        node = str(Path(shutil.which("node") or "/usr/bin/node").parent)
        return super().environment(
            PATH=f"{Path(sys.executable).parent}:{node}:/usr/local/bin:/usr/bin:/bin",
            npm_config_globalconfig="/dev/null",
            npm_config_update_notifier="false",
            npm_config_cache=str(self.home / "npm-cache"),
            YARN_CACHE_FOLDER=str(self.home / "yarn-cache"),
            YARN_ENABLE_TELEMETRY="0",
            YARN_ENABLE_IMMUTABLE_INSTALLS="0",
            YARN_NODE_LINKER="node-modules",
            YARN_NPM_MINIMAL_AGE_GATE="0",  # it would not take what was published just now
            BUN_INSTALL_CACHE_DIR=str(self.home / "bun-cache"),
            DENO_DIR=str(self.home / "deno-cache"),
            DENO_NO_UPDATE_CHECK="1",
            CI="1",
            **more,
        )

    def npm(self, *arguments: str, cwd: Path | None = None, **more: str) -> Done:
        return self.run("npm", *arguments, cwd=cwd, **more)

    def pnpm(self, *arguments: str, cwd: Path) -> Done:
        return self.run(*installed(PNPM), *arguments, cwd=cwd, npm_config_store_dir=str(self.home / "pnpm-store"))

    def yarn_classic(self, *arguments: str, cwd: Path) -> Done:
        return self.run(*installed(YARN_CLASSIC), *arguments, cwd=cwd)

    def yarn(self, *arguments: str, cwd: Path) -> Done:
        return self.run(*installed(YARN_BERRY), *arguments, cwd=cwd)

    def program(self, client: str, *arguments: str, cwd: Path) -> Done:
        """Run one of the clients by its name here."""
        return self.run(*installed(client), *arguments, cwd=cwd)

    def without_trust_root(self) -> dict[str, str]:
        """What makes ``npm audit signatures`` ask the registry for keys at once."""
        script = self.home / "no-trust-root.cjs"
        script.write_text(_NO_TRUST_ROOT)
        return {"NODE_OPTIONS": f"--require {script}"}

    def forget(self) -> None:
        """Drop everything that a client has kept."""
        for name in ("npm-cache", "pnpm-store", "yarn-cache", "bun-cache", "deno-cache"):
            shutil.rmtree(self.home / name, ignore_errors=True)

    def project(self, name: str, version: str = "1.0.0", **more: Any) -> Path:
        """A folder with a package of that name."""
        folder = self.home / name.replace("/", "+")
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {"name": name, "version": version, "description": f"The {name} package", "license": "MIT", **more}
        (folder / "package.json").write_text(json.dumps(manifest))
        (folder / "index.js").write_text(f"module.exports = {json.dumps(f'{name} {version}')};\n")
        (folder / "README.md").write_text(f"# {name}\n")
        return folder

    def loads(self, folder: Path, name: str) -> str:
        """What ``require(name)`` gives in a project."""
        return self.run("node", "-p", f"require({name!r})", cwd=folder).ok().output.strip()
