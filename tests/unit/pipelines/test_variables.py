import json

import pytest

from hooks.pipelines.variables import MAX_RESOLVED_BYTES, Unresolved, malformed, references, resolve

VALUES = {
    "src": {"Name": "acme", "Version": "1.0", "Evil": '","type":"X","name":"HOME'},
    "variables": {"N": "#{src.Name}"},
}


def test_references_are_replaced():
    assert resolve({"A": "x-#{src.Name}-#{src.Version}", "B": "plain"}, VALUES, ()) == {"A": "x-acme-1.0", "B": "plain"}


def test_a_value_is_not_looked_at_again():
    assert resolve({"A": "#{variables.N}"}, VALUES, ()) == {"A": "#{src.Name}"}


@pytest.mark.parametrize("text", ["#{src.name}", "#{other.Name}", "#{src.}x #{src.Missing}"])
def test_unresolved_and_case_sensitive(text):
    with pytest.raises(Unresolved, match="has no value"):
        resolve({"A": text}, VALUES, ())


def test_a_value_cannot_change_a_json_document():
    document = json.dumps([{"name": "V", "value": "#{src.Evil}"}])
    inside = resolve({"E": document}, VALUES, {"E"})["E"]
    assert json.loads(inside) == [{"name": "V", "value": VALUES["src"]["Evil"]}]
    # the control: plain text replacement would have added a member
    assert json.loads(resolve({"E": document}, VALUES, ())["E"])[0]["name"] == "HOME"


def test_resolved_size_is_limited():
    with pytest.raises(Unresolved, match="larger than"):
        resolve({"A": "#{n.k}#{n.k}"}, {"n": {"k": "x" * (MAX_RESOLVED_BYTES // 2 + 1)}}, ())


def test_malformed():
    assert malformed("#{src}")
    assert malformed("#{src.Name} and #{")
    assert not malformed("#{src.Name} {x} #")
    assert list(references("#{a.b}#{c.d}")) == [("a", "b"), ("c", "d")]
