"""Secret properties are taken out of a document by the place of their nodes, however they are written."""

import json

import pytest

from hooks.pipelines.actions import PROVIDERS
from hooks.pipelines.custom_types import check_query_value
from hooks.pipelines.declaration import MASK, parse_documents
from hooks.pipelines.provider import Provider, Setting
from registry.errors import InvalidDocument

SECRET = "correct-horse-battery"
SIGNER = Provider(
    "Build",
    "Custom",
    "Signer",
    (
        Setting("Pool", is_required=True, check=check_query_value),
        Setting("Key", is_required=True, is_secret=True),
        Setting("Pin", check=lambda value: None if value.isdigit() else "it is no number", is_secret=True),
    ),
    inputs=(0, 1),
    outputs=(0, 1),
    variables=None,
    version="2",
)
KNOWN = (*PROVIDERS, SIGNER)


def document(configuration: str, name: str = "p") -> str:
    return f"""name: {name}
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
    configuration: {{Repository: dev, Format: pypi, Name: "*"}}
- name: Sign
  actions:
  - name: Sign
    actionTypeId: {{category: Build, owner: Custom, provider: Signer, version: "2"}}
{configuration}    runOrder: 3
"""


WAYS = {
    "plain": f"    configuration:\n      Pool: a\n      Key: {SECRET}\n",
    "with a comment behind": f"    configuration:\n      Key: {SECRET}   # from the vault\n      Pool: a\n",
    "double quotes": f'    configuration: {{Key: "{SECRET}", Pool: a}}\n',
    "single quotes": f"    configuration: {{Pool: a, Key: '{SECRET}'}}\n",
    "escapes": f'    configuration: {{Pool: a, Key: "{SECRET[:-1]}\\x79"}}\n',
    "block": f"    configuration:\n      Key: |-\n        {SECRET}\n      Pool: a\n",
    "block at the end": f"    configuration:\n      Pool: a\n      Key: >-\n        {SECRET}\n",
    "tagged": f"    configuration:\n      Key: !!str {SECRET}\n      Pool: a\n",
    "over two lines": f'    configuration:\n      Key: "{SECRET[:7]}\\\n        {SECRET[7:]}"\n      Pool: a\n',
    "two secrets": f"    configuration: {{Key: {SECRET}, Pool: a, Pin: '1234567890'}}\n",
    "beyond the first plane": f'    configuration: {{Pool: a, Key: "{SECRET}"}} # 🔑 ключ\n',
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", ["", f"# one\n---\n{document(WAYS['plain'], 'other')}---\n"])
def test_the_text_stays_what_it_was_but_for_the_secret(way: str, before: str) -> None:
    text = document(WAYS[way])
    found = parse_documents(before + text, KNOWN)[-1]
    assert found.secrets["Sign", "Sign", "Key"] == SECRET
    assert SECRET not in found.text
    assert SECRET not in repr(found)
    assert SECRET[7:] not in found.text
    action = found.declares.stages[1].actions[0]
    assert action.configuration["Key"] == MASK
    assert (action.configuration["Pool"], action.run_order, action.type.version) == ("a", 3, "2")
    # What is left reads as the same, with the mask where the secret was; and again, as it is.
    again = parse_documents(found.text, KNOWN)[0]
    assert again.declares == found.declares
    assert set(again.secrets.values()) == {MASK}
    assert again.text == found.text
    kept = [
        line for line in text.splitlines() if SECRET[:7] not in line and "Key:" not in line and SECRET[7:] not in line
    ]
    assert [line for line in kept if line not in found.text.splitlines()] == []


def test_json_is_json_afterwards() -> None:
    source = {
        "name": "Package",
        "actionTypeId": {"category": "Source", "owner": "Entrepot", "provider": "Package", "version": "1"},
        "configuration": {"Repository": "dev", "Format": "pypi", "Name": "*"},
    }
    sign = {
        "name": "Sign",
        "actionTypeId": {"category": "Build", "owner": "Custom", "provider": "Signer", "version": "2"},
        "configuration": {"Pool": "a", "Key": f'{SECRET} "quoted" \U0001f511', "Pin": "42"},
    }
    whole = {
        "pipeline": {
            "name": "p",
            "stages": [{"name": "Source", "actions": [source]}, {"name": "Sign", "actions": [sign]}],
        },
        "metadata": {},
    }
    for indent in (None, "\t"):
        found = parse_documents(json.dumps(whole, indent=indent), KNOWN)[0]
        assert found.secrets["Sign", "Sign", "Key"] == sign["configuration"]["Key"]
        left = json.loads(found.text)["pipeline"]["stages"][1]["actions"][0]["configuration"]
        assert left == {"Pool": "a", "Key": MASK, "Pin": MASK}


@pytest.mark.parametrize(
    ("configuration", "told"),
    [
        (f"    configuration: {{Pool: a, Key: [{SECRET}]}}\n", "must be text"),
        ("    configuration: {Pool: a, Key: 1234567890}\n", "write it in quotes"),
        ("    configuration: {Pool: a, Key: ''}\n", "1 to 1000 are allowed"),
        (f"    configuration: {{Pool: a, Key: {SECRET * 60}}}\n", "1 to 1000 are allowed"),
        (f"    configuration: {{Pool: a, Key: '{SECRET}#{{a.b}}'}}\n", "variables are not written"),
        (f"    configuration: {{Pool: a, Key: k, Pin: {SECRET}}}\n", "it is no number"),
        (f"    configuration: {{Pool: {SECRET}, Key: {SECRET}}}\n", "stands in the document once more"),
        ("    configuration: {Pool: a}\n", "configuration Key is missing"),
    ],
)
def test_no_fault_repeats_a_secret(configuration: str, told: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        parse_documents(document(configuration), KNOWN)
    said = str(refused.value) + repr(refused.value.faults)
    assert told in said
    assert SECRET not in said
    assert "1234567890" not in said
