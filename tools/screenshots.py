#!/usr/bin/env python3
"""The pictures in README and documentation, made anew: the grand tour is played, and the main pages are photographed.

``tools/screenshots.py [--home DIR]`` needs what the tests need (Chromium by Playwright) and what the demo needs. The demo
is set up below ``--home``, its first version released, its second sent back by itself, a third left waiting for approval;
then it is taken down again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
CHROMIUM = "/usr/bin/chromium"
WIDTH, HEIGHT = 1280, 800
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Picture:
    """One page: the file's name, its path, and what has to be in it before it is taken."""

    name: str
    path: str
    has: str
    is_dark: bool = False
    height: int = HEIGHT


PICTURES_OF = (
    Picture("home", "/", "shop"),
    Picture("package", "/packages/default/prod/pypi/shop", "shop"),
    Picture("pipeline", "/pipelines/shop", "Staging"),
    Picture("execution", "/executions/1", "Succeeded"),
    Picture("approval", "/approvals", "Release"),
    Picture("build", "/builds/{build}", "SUCCEEDED"),
    Picture("deployment", "/deployments/{deployment}", "prod-"),
    Picture("board", "/board", "prod", is_dark=True),
)


class Tour:
    """The demo below ``home``, and a shell in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.page = ""

    def type(self, line: str, *, may_fail: bool = False) -> str:
        """What a shell prints for ``line``. Raises CalledProcessError."""
        words = ["bash", "-c", f". {self.home}/environment && cd {self.home}/shop && {line}"]
        done = subprocess.run(words, capture_output=True, text=True, check=not may_fail, timeout=300)
        return done.stdout.strip()

    def until(self, line: str, word: str) -> str:
        """Repeat ``line`` until ``word`` is in what it prints. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE_SECONDS
        while word not in (told := self.type(line, may_fail=True)):
            if time.monotonic() > end:
                raise TimeoutError(f"{line}: {told}")
            time.sleep(1)
        return told

    def play(self) -> None:
        """One version released, one sent back, one that waits."""
        self.type("git push")
        self.until("entrepot pipeline status 1", "Release\tWaiting")
        self.type("entrepot pipeline approve 1 --comment 'staging looks well' --token-file $ALEX")
        self.until("entrepot pipeline status 1 --json", '"Succeeded"')
        self.type("entrepot pipeline status 1 --watch")
        self.type("git apply ../currency.patch && git commit -qam 'Say the currency' && git push")
        self.until("entrepot pipeline status 2", "Release\tWaiting")
        self.type("entrepot pipeline approve 2 --token-file $ALEX")
        self.type("entrepot pipeline status 2 --watch", may_fail=True)
        third = "sed -i 's/2.0/2.1/' shop/__init__.py && sed -i 's/\"?\"/\"EUR\"/' shop/__main__.py"
        self.type(f"{third} && git commit -qam 'Say EUR where nobody says another' && git push")
        self.until("entrepot pipeline status 3", "Release\tWaiting")

    def places(self) -> dict[str, str]:
        """What the paths of pictures name."""
        builds = [line.split("\t") for line in self.type("entrepot build list").splitlines()]
        deployments = [line.split("\t") for line in self.type("entrepot deploy list").splitlines()]
        return {
            "build": next(each[0] for each in reversed(builds) if each[1] == "shop"),
            "deployment": next(each[0] for each in deployments if each[2] == "prod" and each[4] == "Succeeded"),
        }


def take(page: Page, url: str, picture: Picture, places: dict[str, str]) -> None:
    """One picture, into the documentation."""
    page.emulate_media(color_scheme="dark" if picture.is_dark else "light")
    page.goto(url + picture.path.format(**places))
    page.get_by_text(picture.has).first.wait_for()
    page.screenshot(path=PICTURES / f"{picture.name}.png", animations="disabled")


def photograph(signing_in: str, url: str, places: dict[str, str]) -> None:
    """All pictures, as somebody who has signed in."""
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        sized: dict[str, Any] = {"width": WIDTH, "height": HEIGHT}
        page = browser.new_page(viewport=sized)  # type: ignore[arg-type]
        page.goto(signing_in)
        page.get_by_role("button").filter(has_text="Sign in").first.click()
        page.wait_for_load_state()
        for picture in PICTURES_OF:
            take(page, url, picture, places)
        browser.close()


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path("/var/tmp/entrepot-pictures"))  # noqa: S108 - the user's choice
    home = parser.parse_args().home
    demo = [sys.executable, ROOT / "tools" / "demo.py"]
    told = subprocess.run([*demo, "up", "--home", home], capture_output=True, text=True, check=True).stdout
    try:
        tour = Tour(home)
        tour.play()
        signing_in = next(line.split()[0] for line in told.splitlines() if "/setup?" in line)
        photograph(signing_in, signing_in.partition("/setup")[0], tour.places())
    finally:
        subprocess.run([*demo, "down", "--home", home], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
