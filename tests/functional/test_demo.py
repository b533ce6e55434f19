"""The grand tour as README and documentation tell it: from a push to the machines, and a bad version that goes back."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.harness.server import ROOT

DEMO = (ROOT / ".venv" / "bin" / "python", ROOT / "tools" / "demo.py")


class Tour:
    """Somebody who has set the demo up, and types."""

    def __init__(self, home: Path) -> None:
        self.home = home
        told = subprocess.run([*DEMO, "up", "--home", home], capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr + self.log()
        self.shop = self.type("echo $SHOP")

    def type(self, line: str, *, status: int = 0) -> str:
        """What a shell prints for ``line``, in the clone of the shop with the demo's environment."""
        words = ["bash", "-c", f". {self.home}/environment && cd {self.home}/shop && {line}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == status, (line, done.stdout, done.stderr, self.log())
        return (done.stdout + done.stderr).strip()

    def until(self, line: str, found: Callable[[str], bool]) -> str:
        end = time.monotonic() + 180
        while not found(told := self.type(f"{line} || true")):
            assert time.monotonic() < end, told + self.log()
            time.sleep(2)
        return told

    def waits(self, execution: int) -> None:
        told = self.until(
            f"entrepot pipeline status {execution}", lambda told: "Release\tWaiting" in told or "Failed" in told
        )
        assert "Release\tWaiting" in told, told + self.log()

    def log(self) -> str:
        return "\n".join(file.read_text()[-1500:] for file in sorted(self.home.glob("log/*")))


@pytest.fixture
def tour() -> Iterator[Tour]:
    with tempfile.TemporaryDirectory(prefix="entrepot-demo-") as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "demo"
        try:
            yield Tour(home)
        finally:
            if home.exists():
                subprocess.run([*DEMO, "down", "--home", home], check=True, capture_output=True)


@pytest.mark.network
@pytest.mark.slow
def test_from_a_push_to_prod_and_a_bad_version_back_again(tour: Tour) -> None:
    assert "Entrepot: started" in tour.type("git push")
    tour.waits(1)
    assert "dana may not approve in default/prod" in tour.type("entrepot pipeline approve 1", status=1)
    tour.type("entrepot pipeline approve 1 --comment 'staging looks well' --token-file $ALEX")
    tour.type("entrepot pipeline status 1 --watch --exit-status")
    first = tour.type("curl -s $SHOP")
    assert first == "shop 1.0: a cup of tea is 2.50"

    answered: Counter[str] = Counter()
    is_over = threading.Event()

    def buy() -> None:
        while not is_over.wait(0.02):
            answered[requests.get(tour.shop, timeout=30).text.strip()] += 1

    buyer = threading.Thread(target=buy)
    buyer.start()
    tour.type("git apply ../currency.patch && git commit -qam 'Say the currency' && git push")
    tour.waits(2)
    tour.type("entrepot pipeline approve 2 --token-file $ALEX")
    told = tour.type("entrepot pipeline status 2 --watch --exit-status", status=1)
    assert "AfterAllowTraffic failed" in told, told
    assert "given back to them" in told, told
    tour.until("entrepot deploy list", lambda rows: all("\tInProgress\t" not in row for row in rows.splitlines()))
    is_over.set()
    buyer.join()
    # Nobody was without an answer, and in the end everybody has the one from before again.
    assert set(answered) <= {first, "shop 2.0: a cup of tea is 2.50 ?"}
    assert tour.type("curl -s $SHOP") == first

    held = tour.type("entrepot package show staging shop 2.0 && entrepot package show prod shop 2.0")
    digests = {line for line in held.splitlines() if line.startswith("files")}
    assert len(digests) == 1
    down(tour)


def down(tour: Tour) -> None:
    """Nothing is left of it: no program, no file."""
    subprocess.run([*DEMO, "down", "--home", tour.home], check=True, capture_output=True)
    assert not tour.home.exists()
    left = [
        words
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and (words := _words(folder)) and str(tour.home) in words
    ]
    assert left == []
    with pytest.raises(requests.ConnectionError):
        requests.get(tour.shop, timeout=5)


def _words(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""
