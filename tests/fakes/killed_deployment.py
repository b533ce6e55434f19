"""A deployment that is killed at its n-th change of the disk, for n as they come; and gone on with after that.

``python killed_deployment.py plain|atomic|late PLACE EVERY``: prints how often it was killed, and how often the old and the
new release were seen through the link after it. Ends with an error when the end is not the same as without a kill.
``late`` is the negative control: what is made is noted after it was made.
"""

from __future__ import annotations

import builtins
import json
import os
import shutil
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from hooks.deployments.host import install  # noqa: E402
from hooks.deployments.host.deployment import Deployment, HostDeployment, load_deployment  # noqa: E402
from hooks.deployments.host.local import deploy  # noqa: E402
from hooks.deployments.host.scripts import ScriptSettings  # noqa: E402
from hooks.deployments.host.state import GroupState  # noqa: E402
from hooks.deployments.outcomes import EventStatus  # noqa: E402
from registry.clock import system_clock  # noqa: E402
from tests.deploying import bundle, tree  # noqa: E402

CHANGES = (
    "rename",
    "link",
    "unlink",
    "symlink",
    "mkdir",
    "rmdir",
    "write",
    "fsync",
    "fchmod",
    "chmod",
    "utime",
    "ftruncate",
)
OLD = {"a": "old", "gone/b": "old", "stays/c": "old" * 9}
NEW = {"a": "new", "new/b": "new", "stays/c": "new" * 9, "stays/d": "new"}


class Trial:
    def __init__(self, kind: str, place: Path) -> None:
        self.kind = kind
        self.place = place
        self.out = place / "out/app"
        appspec = f"files: [{{source: app, destination: {self.out}}}]\npermissions: [{{object: {self.out}, mode: 750}}]"
        self.sources = {
            name: bundle(place / name, appspec, {f"app/{path}": text for path, text in files.items()})
            for name, files in (("old", OLD), ("new", NEW))
        }
        self.state = GroupState(place / "state", "g")

    def deploy(self, name: str, *, resumed: bool = False) -> None:
        self.state.prepare()
        link = str(self.out) if self.kind == "atomic" else ""
        wanted = Deployment(name, "g", "g", "a", ("DownloadBundle", "Install"), link=link)
        if resumed and (self.state.deployment(name) / "deployment.json").exists():
            wanted = load_deployment(self.state, name)
        source = self.sources[name]
        with self.state.locked():
            host = HostDeployment(wanted, self.state, lambda _: source, ScriptSettings(), system_clock, lambda _: None)
            results = deploy(host, lambda _: None)
        assert all(result.status is EventStatus.SUCCEEDED for result in results), results

    def contents(self) -> dict[str, str]:
        return {name: text for name, text in tree(self.out.resolve()).items() if not name.endswith("/")}

    def clear(self) -> None:
        for path in (self.out.parent, self.state.root):
            if path.exists():
                shutil.rmtree(path)


def killed_at(number: int, trial: Trial) -> bool:
    """Whether the child was killed before its end."""
    child = os.fork()
    if child == 0:
        left = [number]

        def counted(real):
            def change(*arguments, **options):
                left[0] -= 1
                if left[0] <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return change

        for name in CHANGES:
            setattr(os, name, counted(getattr(os, name)))
        try:
            trial.deploy("new")
        except BaseException as error:
            builtins.print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert status == 0, f"the deployment has failed before change {number}"
    return False


def note_afterwards() -> None:
    real = install.carry_out

    def carry_out(archive, steps, record):
        noted = []
        real(archive, steps, noted.extend)
        record(noted)

    install.carry_out = carry_out


def main(kind: str, place: Path, every: int) -> None:
    if kind == "late":
        note_afterwards()
    trial = Trial(kind, place)
    seen = {"kills": 0, "old": 0, "new": 0}
    number = 1
    while True:
        trial.clear()
        trial.deploy("old")
        assert trial.contents() == OLD
        if not killed_at(number, trial):
            break
        seen["kills"] += 1
        found = trial.contents()
        if kind == "atomic":
            assert found in (OLD, NEW), (number, found)
            seen["old" if found == OLD else "new"] += 1
        for name, text in found.items():  # no file is ever half of one
            assert name.startswith(("stays/.entrepot-", ".entrepot-", "new/.entrepot-")) or text in {
                OLD.get(name),
                NEW.get(name),
            }, (number, name)
        trial.deploy("new", resumed=True)
        assert trial.contents() == NEW, (number, trial.contents())
        assert not [path for path in trial.place.rglob(".entrepot-*") if trial.state.root not in path.parents], number
        for path in trial.out.rglob("*"):
            assert path.stat().st_mode & 0o777 == 0o750, (number, path)
        assert not trial.state.unfinished()
        number += every
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
