"""What the steps around a build's commands share: its sandbox, its log, and the values of texts in its buildspec.

Variables and command substitution in names of artifacts and keys of caches are done by a shell of the build's in the
sandbox: the text is the build's own, like its commands, and no shell of the worker's ever looks at it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hooks.builds.executor import Interrupt, Item, Outcome, Sandbox

MAX_BYTES = 4096
"""The longest value; what comes after it is left out."""

# The text stands in a here-document: there a shell does variables and command substitution, and leaves quotes and spaces
# alone. What the commands in it print to standard error comes before the marker, and is output like any other.
_SCRIPT = """cd "$CODEBUILD_SRC_DIR"
entrepot_value="${{TMPDIR:-/tmp}}/{marker}"
cat >|"$entrepot_value" <<{marker}
{text}
{marker}
printf '\\n%s' '{marker}'
cat "$entrepot_value"
rm -f "$entrepot_value"
unset entrepot_value
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """A sandbox at work. ``check`` raises what an interruption or the end of the sandbox means for the build.

    ``say`` writes an agent's line to the log, ``log`` output. ``environment`` goes to each shell.
    ``mask`` takes the secrets out of what the build is to be known by.
    """

    sandbox: Sandbox
    say: Callable[[str], None]
    log: Callable[[bytes], None]
    interrupt: Interrupt
    check: Callable[[Outcome], None]
    shell: str = "/bin/sh"
    environment: Mapping[str, str] = field(default_factory=dict)
    carries_state: bool = True
    mask: Callable[[str], str] = str

    def value_of(self, text: str) -> str:
        """The value of ``text``, in one line. Raises ExecutorError, and what ``check`` does."""
        if "$" not in text and "`" not in text:
            return text.strip()
        taken = _Taken(f"entrepot-{secrets.token_hex(12)}", self.log)
        script = _SCRIPT.format(marker=taken.marker, text=text)
        item = Item(script, self.shell, self.environment, self.carries_state)
        self.check(self.sandbox.run(item, taken.take, self.interrupt))
        return taken.value()


class _Taken:
    """What a shell printed: output up to a marker, and after it the value."""

    def __init__(self, marker: str, log: Callable[[bytes], None]) -> None:
        self.marker = marker
        self._border = f"\n{marker}".encode()
        self._log = log
        self._waiting = b""
        self._value: bytearray | None = None

    def take(self, data: bytes) -> None:
        if self._value is not None:
            self._value += data[: MAX_BYTES - len(self._value)]
            return
        before, found, after = (self._waiting + data).partition(self._border)
        if found:
            self._value = bytearray(after[:MAX_BYTES])
            self._tell(before)
        else:
            hold = len(before) - len(self._border)
            self._tell(before[: max(0, hold)])
            self._waiting = before[max(0, hold) :]

    def value(self) -> str:
        if self._value is None:
            self._tell(self._waiting)
            return ""
        return " ".join(self._value.decode(errors="replace").split())

    def _tell(self, output: bytes) -> None:
        if output:
            self._log(output)
