"""Where the statements of a policy stand in its text, so that a fault can be told with its line. Pure."""

from __future__ import annotations

import re

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)


def statement_lines(text: str) -> list[int]:
    """The line on which each entry of ``Statement`` begins, counted from 1; empty where none is found.

    ``text`` is JSON that has been read already. A single statement that stands in no list counts as one.
    """
    depth, key, lines, starts = 0, "", [], False
    is_inside = False
    for token in _TOKEN.finditer(text):
        word = token[0]
        if starts and word not in {"]", ","}:
            lines.append(text.count("\n", 0, token.start()) + 1)
            starts = False
        if word in "[{":
            depth += 1
            if depth == 2 and key == "Statement" and not is_inside:
                is_inside = True
                if word == "{":
                    return [text.count("\n", 0, token.start()) + 1]
                starts = True
        elif word in "]}":
            depth -= 1
            if is_inside and depth == 1:
                return lines
        elif word == "," and is_inside and depth == 2:
            starts = True
        elif depth == 1 and word.startswith('"'):
            key = word[1:-1]
    return lines
