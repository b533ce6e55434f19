"""What is wrong with an appspec, also with what it says of the bundle it lies in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hooks.deployments.appspec import parse_appspec
from hooks.deployments.appspec_model import AppSpec
from hooks.deployments.host.scripts import head_fault
from hooks.document import MAX_DOCUMENT_BYTES
from registry.errors import InvalidDocument

_HEAD_BYTES = 512
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def lint_appspec(content: bytes, name: str, bundle: Path | None) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """Faults, warnings, and the scripts by event. ``bundle`` None: only the document itself is looked at."""
    try:
        # One that is too long may be cut within a character; it is refused for its length.
        text = content.decode(errors="replace" if len(content) > MAX_DOCUMENT_BYTES else "strict")
        spec = parse_appspec(text, name)
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        return [f"line {number}: not UTF-8 text"], [], {}
    except InvalidDocument as error:
        return list(error.faults), [], {}
    warnings = list(spec.warnings)
    if Path(name).name == "appspec.yaml":
        warnings.append("CodeDeploy's agent finds appspec.yaml for Install, and no hooks; call it appspec.yml")
    if bundle is not None:
        warnings += _of_bundle(spec, bundle)
    return [], warnings, {event: [script.location for script in scripts] for event, scripts in spec.hooks.items()}


def _of_bundle(spec: AppSpec, bundle: Path) -> Iterator[str]:
    for mapping in spec.files:
        try:
            if mapping.source and not (bundle / mapping.source).exists():
                yield f"line {mapping.line}: the bundle has no {mapping.source}"
        except OSError as error:
            yield f"line {mapping.line}: {mapping.source} cannot be looked at: {error.strerror}"
    for event, scripts in spec.hooks.items():
        for script in scripts:
            try:
                fault = _fault_of(bundle, script.location)
            except OSError as error:
                fault = f"{script.location} cannot be looked at: {error.strerror}"
            if fault:
                yield f"line {script.line}: hooks.{event}: {fault}"


def _fault_of(bundle: Path, location: str) -> str:
    path = bundle / location
    if not path.is_file():
        return f"the bundle has no script {location}"
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    fault = head_fault(head.removeprefix(_BYTE_ORDER_MARK))
    if head.startswith(_BYTE_ORDER_MARK):
        fault = fault or "it begins with a byte order mark, so that its first line counts for nothing"
    if fault:
        return f"{location}: {fault}"
    return "" if path.stat().st_mode & 0o111 else f"{location} is not executable; that is mended on the way"
