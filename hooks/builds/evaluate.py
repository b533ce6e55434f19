"""Variables and command substitution in texts of a buildspec (names of artifacts, keys of caches), as a shell does them.

In the sandbox, by a shell of the build's: the text is the build's own, like its commands, and nothing of it is ever
looked at by a shell of the worker's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

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


def evaluate(
    sandbox: Sandbox,
    text: str,
    *,
    shell: str,
    environment: Mapping[str, str],
    sink: Callable[[bytes], None],
    interrupt: Interrupt,
    carries_state: bool = True,
) -> tuple[Outcome | None, str]:
    """The value of ``text``, in one line; the Outcome is None where no shell was needed. Raises ExecutorError."""
    if "$" not in text and "`" not in text:
        return None, text
    marker = f"entrepot-{secrets.token_hex(12)}"
    taken = bytearray()
    border = f"\n{marker}".encode()

    def take(data: bytes) -> None:
        nonlocal taken
        at = taken.find(border)
        taken += data
        if at < 0 and (at := taken.find(border)) < 0 and len(taken) > MAX_BYTES:
            sink(bytes(taken[: -len(border)]))
            taken = taken[-len(border) :]
        if at >= 0:
            del taken[at + len(border) + MAX_BYTES :]

    script = _SCRIPT.format(marker=marker, text=text)
    outcome = sandbox.run(Item(script, shell, environment, carries_state), take, interrupt)
    before, found, value = bytes(taken).partition(border)
    if before.strip():
        sink(before.rstrip(b"\n") + b"\n")
    return outcome, " ".join(value.decode(errors="replace").split()) if found else ""
