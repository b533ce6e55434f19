"""kill -9 of an agent at random moments of real deployments: a target is old or new, never between, statuses are true."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from tests.agent_bench import Crew, release
from tests.build_bench import eventually

FILES = 40
SCRIPT = "#!/bin/sh\nsleep 0.05\necho $LIFECYCLE_EVENT >> MARKS\n"
HOOKS = "hooks:\n" + "".join(
    f"  {event}:\n    - {{location: note.sh}}\n" for event in ("BeforeInstall", "AfterInstall")
)


def versions(app: Path, files: int = FILES) -> set[str]:
    """What the files of a release say, of one look at the link."""
    release_now = app.resolve()
    texts = [(release_now / f"{number}.txt").read_text() for number in range(files)]
    assert all(text == text.splitlines(keepends=True)[0] * (number + 1) for number, text in enumerate(texts))
    return {text.split("\n")[0] for text in texts}


class Watcher(threading.Thread):
    """Looks at the link on and on; what it ever saw that was not one whole release."""

    def __init__(self, app: Path, files: int = FILES, pause_seconds: float = 0.01) -> None:
        super().__init__(daemon=True)
        self.files, self.pause_seconds = files, pause_seconds
        self.app, self.is_over, self.torn, self.looks = app, False, [], 0

    def run(self) -> None:
        while not self.is_over:
            try:
                seen = versions(self.app, self.files)
            except (OSError, AssertionError, IndexError) as error:
                self.torn.append(repr(error))
            else:
                self.looks += 1
                if len(seen) != 1:
                    self.torn.append(repr(seen))
            time.sleep(self.pause_seconds)


def campaign(crew: Crew, name: str, place: Path, kills: int, seed: int) -> None:
    """Deploy again and again to the agent ``name``, which runs; it is killed once in each deployment."""
    app, chance = place / "app", random.Random(seed)
    script = SCRIPT.replace("MARKS", str(place / "marks"))
    group = crew.group(f"kills-{seed}", name, link=str(app))

    def bundle(version: str) -> bytes:
        return release(app, version, hooks=HOOKS, files=FILES, note_sh=script)

    first = crew.deploy(group, bundle("v0"))
    assert crew.ended(first) == "Succeeded", crew.log(name)
    watcher, current, ends = Watcher(app), "v0", {"Succeeded": 0, "Failed": 0}
    watcher.start()
    for number in range(1, kills + 1):
        version = f"v{number}"
        done = crew.deploy(group, bundle(version))
        eventually(lambda done=done: crew.events(done)["ApplicationStop"].offered_at, "nothing was offered")
        time.sleep(chance.uniform(0, 1.2))
        crew.kill(name)
        crew.run(name)
        status = crew.ended(done)
        ends[status] += 1
        events = crew.events(done)
        (now,) = versions(app)
        assert now == (version if events["Install"].status == "Succeeded" else current), (seed, number, status)
        assert (status == "Succeeded") is all(event.status == "Succeeded" for event in events.values())
        if status == "Failed":
            (failed,) = [event for event in events.values() if event.status == "Failed"]
            # A script that had begun is the only thing that a kill may cost.
            assert (failed.name in {"BeforeInstall", "AfterInstall"}, failed.agent_code) == (True, 7), failed.message
        current = now
    watcher.is_over = True
    watcher.join()
    assert watcher.torn == []
    assert watcher.looks > kills
    assert ends["Succeeded"] + ends["Failed"] == kills
    # After all of it the machine is as if nothing had been.
    last = crew.deploy(group, bundle("last"))
    assert crew.ended(last) == "Succeeded", crew.log(name)
    assert versions(app) == {"last"}
