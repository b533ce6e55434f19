"""``.yarnrc.yml``: top-level keys set as text, so that comments and everything else stay. Pure.

The result is read back with a YAML parser: a file that came out wrong is never handed on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from registry.errors import Invalid

_KEY = re.compile(r"([A-Za-z][A-Za-z0-9]*|\"[^\"]*\"|'[^']*')[ \t]*:(?:[ \t]|$)")


def read(text: str | None) -> dict[str, Any]:
    """The file's content. Raises Invalid."""
    try:
        value = yaml.safe_load(text or "")
    except yaml.YAMLError as error:
        raise Invalid(f"the existing file cannot be read: {str(error).splitlines()[0]}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid("the existing file is not a list of settings")
    return value


def set_values(text: str | None, values: Mapping[str, str | bool | list[str]]) -> str:
    """Set top-level keys; each takes the place of what the key had. Raises Invalid for a file that cannot be changed."""
    before = read(text)
    kept: list[str] = []
    held: list[str] = []  # comments behind a replaced value: within it, or before the next key
    is_replaced = False
    for line in (text or "").splitlines():
        found = _KEY.match(line)
        if found is not None:
            is_replaced = found[1].strip("\"'") in values
            kept += held
            held = []
        if is_replaced and line.startswith("#"):
            held.append(line)
        elif not is_replaced:
            kept.append(line)
        elif found is None and line.strip():
            held = []
    kept += held
    while kept and not kept[-1].strip():
        kept.pop()
    # JSON is YAML: values are quoted, lists stand in one line.
    written = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    result = "\n".join([*kept, *written]) + "\n"
    if read(result) != {**before, **values}:
        raise Invalid(f"cannot set {', '.join(values)} in this file; set them by hand")
    return result
