"""Where the statements of a policy's text begin."""

import json

import pytest

from registry.policy.lines import statement_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"Statement": []}', []),
        ('{"Statement": [{"Sid": "a"}, {"Sid": "b"}]}', [1, 1]),
        ('{\n "Statement": {\n  "Sid": "a"}}', [2]),
        ('{\n"Id": "Statement",\n"Statement": [\n\n{"a": [1, {"b": 2}]},\n7,\n"x, [{",\n null]}', [5, 6, 7, 8]),
        ('{"Version": {"Statement": [1]},\n"Statement":\n[{}\n,{}]}', [3, 4]),
        ('{"Id": "a \\" { Statement",\n "Statement": [\n{"Sid": "\\\\"}, {\n}]}', [3, 3]),
        ("7", []),
        ("[[[", []),
    ],
)
def test_each_statement_has_the_line_on_which_it_begins(text: str, expected: list[int]) -> None:
    assert [line for line in statement_lines(text) if line] == expected


def test_as_many_lines_as_statements_in_what_json_writes() -> None:
    statements = [{"Sid": f"s{number}", "Action": ["a,[", "b"], "Condition": {"x": {"y": []}}} for number in range(40)]
    for indent in (None, 0, 2):
        text = json.dumps({"Version": "x", "Statement": statements}, indent=indent)
        lines = statement_lines(text)
        assert len(lines) == 40
        assert lines == sorted(lines)
        if indent == 2:
            assert all(text.splitlines()[line - 1] == "    {" for line in lines)
