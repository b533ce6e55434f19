"""The scripts that set a machine up, with programs of our own in the place of the machine's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

GOOD = """#!/bin/bash
[ "$1" = -c ] && exit 0
venv=${@: -1}
mkdir -p "$venv/bin"
echo "$0" > "$venv/pyvenv.cfg"
printf '#!/bin/bash\\n' > "$venv/bin/python"
chmod +x "$venv/bin/python"
"""
# As Debian's Python without the package python3-venv: it fails, and leaves an environment without pip.
WITHOUT_ENSUREPIP = GOOD.replace("#!/bin/bash\\n'", "#!/bin/bash\\nexit 1\\n'") + "exit 1\n"
TOO_OLD = "#!/bin/bash\nexit 1\n"


class Machine:
    """A folder that is the whole PATH."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.venv = folder / "venv"
        self.bin.mkdir()
        for program in ("bash", "env", "id", "rm", "mkdir", "chmod"):
            found = shutil.which(program)
            assert found is not None
            (self.bin / program).symlink_to(found)

    def has(self, program: str, text: str) -> None:
        (self.bin / program).write_text(text)
        (self.bin / program).chmod(0o755)

    def find_python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [ROOT / "tools" / "find-python", self.venv, *arguments]
        return subprocess.run(command, env={"PATH": str(self.bin)}, capture_output=True, text=True, check=False)

    def taken(self) -> str:
        """The Python the environment was made with."""
        return Path((self.venv / "pyvenv.cfg").read_text().strip()).name


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_python_that_cannot_make_an_environment_is_passed_over(machine: Machine):
    machine.has("python3.11", WITHOUT_ENSUREPIP)
    machine.has("python3.12", TOO_OLD)
    machine.has("python3.13", GOOD)
    done = machine.find_python()
    assert (done.returncode, machine.taken()) == (0, "python3.13"), done.stderr


def test_a_failed_try_is_not_believed_the_second_time(machine: Machine):
    machine.has("python3.11", WITHOUT_ENSUREPIP)
    for _ in range(2):
        done = machine.find_python()
        assert done.returncode == 1
        assert "python3-venv" in done.stderr
        assert not machine.venv.exists()
    machine.has("python3.11", GOOD)
    assert machine.find_python().returncode == 0
    machine.has("python3.11", TOO_OLD)
    assert machine.find_python().returncode == 0, "what is there is good"


def test_a_half_made_environment_of_an_earlier_run_is_made_anew(machine: Machine):
    machine.has("half", WITHOUT_ENSUREPIP)
    subprocess.run([machine.bin / "half", machine.venv], env={"PATH": str(machine.bin)}, check=False)
    assert (machine.venv / "bin" / "python").exists()
    machine.has("python3", GOOD)
    assert machine.find_python().returncode == 0
    assert machine.taken() == "python3"


def test_the_python_asked_for_is_taken_or_none(machine: Machine):
    machine.has("python3.11", GOOD)
    machine.has("my-python", GOOD)
    assert machine.find_python("my-python").returncode == 0
    assert machine.taken() == "my-python"
    shutil.rmtree(machine.venv)
    machine.has("my-python", TOO_OLD)
    assert machine.find_python("my-python").returncode == 1
    assert not machine.venv.exists()


def test_a_folder_that_is_no_environment_is_left_alone(machine: Machine):
    machine.has("python3.11", GOOD)
    machine.venv.mkdir()
    (machine.venv / "thesis.txt").write_text("years of work")
    assert machine.find_python().returncode == 1
    assert (machine.venv / "thesis.txt").read_text() == "years of work"
