"""Commands to agents: what was signed comes back, anything else is refused; numbers go up alone, also over restarts."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.deployments.agent.identity import Memory
from hooks.deployments.agent.settings import AgentFault
from hooks.deployments.appspec_model import FileExistsBehavior
from hooks.deployments.lifecycle import Course
from hooks.deployments.signed_commands import Command, CommandRefused, Trust, canonical, sign_command

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()
TRUST = Trust("web-1", "id-1", KEY.public_key(), 5)
COMMAND = Command(
    agent="web-1",
    agent_id="id-1",
    sequence=6,
    expires_at=NOW + timedelta(minutes=5),
    deployment_id="d-1",
    application="shop",
    group_id="g",
    group="prod",
    creator="user",
    event_id=1,
    event="Install",
    attempt="1",
    events=("DownloadBundle", "Install"),
    course=Course.IN_PLACE,
    revision={"revisionType": "Upload", "upload": {"id": "u", "sha256": "0" * 64}},
    file_exists_behavior=FileExistsBehavior.DISALLOW,
    appspec_name="appspec.yml",
    link="",
    is_rollback=False,
)
# A few letters of every kind: the table of all of them takes seconds to be made.
texts = st.text('a\x00"\\\\ é☃😀\ud800', max_size=8)
commands = st.builds(
    replace,
    st.just(COMMAND),
    application=texts,
    group=texts,
    link=texts,
    course=st.sampled_from(Course),
    file_exists_behavior=st.sampled_from(FileExistsBehavior),
    is_rollback=st.booleans(),
    events=st.lists(texts, max_size=4).map(lambda names: (*names, "Install")),
    revision=st.dictionaries(texts, st.none() | texts | st.integers(-9, 9) | st.lists(texts, max_size=3), max_size=4),
)


@settings(max_examples=40)
@given(commands)
def test_what_was_signed_comes_back_as_it_was(command: Command) -> None:
    payload, signature = sign_command(command, KEY.sign)
    assert TRUST.accept(payload, signature, NOW) == command


@settings(max_examples=40)
@given(commands, st.data())
def test_not_a_bit_of_it_may_change(command: Command, data: st.DataObject) -> None:
    payload, signature = sign_command(command, KEY.sign)
    whole = bytearray(payload + signature)
    at = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[at // 8] ^= 1 << at % 8
    with pytest.raises(CommandRefused, match="signature"):
        TRUST.accept(bytes(whole[: len(payload)]), bytes(whole[len(payload) :]), NOW)


@given(st.integers(0, 12), st.integers(-400, 400), st.sampled_from(["web-1", "web-2"]), st.sampled_from(["id-1", "x"]))
def test_it_counts_for_its_agent_once_and_in_time(sequence: int, seconds: int, agent: str, agent_id: str) -> None:
    command = replace(
        COMMAND, sequence=sequence, expires_at=NOW + timedelta(seconds=seconds), agent=agent, agent_id=agent_id
    )
    counts = sequence > 5 and seconds > 0 and (agent, agent_id) == ("web-1", "id-1")
    try:
        accepted = TRUST.accept(*sign_command(command, KEY.sign), NOW) == command
    except CommandRefused:
        accepted = False
    assert accepted is counts


@given(
    st.recursive(st.none() | texts | st.integers() | st.booleans(), lambda inner: st.lists(inner, max_size=3)),
    st.data(),
)
def test_whatever_is_signed_in_a_fields_place_is_refused_or_read(value: object, data: st.DataObject) -> None:
    found = json.loads(COMMAND.payload())
    found[data.draw(st.sampled_from(sorted(found)))] = value
    payload = canonical(found)
    try:
        TRUST.accept(payload, KEY.sign(b"entrepot agent command v1\n" + payload), NOW)
    except CommandRefused:
        return  # and nothing else is raised


def test_a_huge_command_is_refused_before_anything_is_computed_of_it() -> None:
    command = replace(COMMAND, application="x" * 70_000)
    with pytest.raises(ValueError, match="bytes"):
        sign_command(command, KEY.sign)
    payload = command.payload()
    with pytest.raises(CommandRefused, match="longer than"):
        TRUST.accept(payload, KEY.sign(b"entrepot agent command v1\n" + payload), NOW)


def test_a_signature_for_one_purpose_is_none_for_another() -> None:
    payload = COMMAND.payload()
    for prefix in (b"", b"entrepot agent session v1\n", b"entrepot server time v1\n"):
        with pytest.raises(CommandRefused, match="signature"):
            TRUST.accept(payload, KEY.sign(prefix + payload), NOW)


@pytest.mark.parametrize(
    "revision", [{}, {"revisionType": "S3"}, {"revisionType": "Upload", "upload": {"sha256": "0"}}]
)
def test_a_revision_without_a_digest_has_no_bundle(revision: dict[str, object]) -> None:
    with pytest.raises(CommandRefused, match="no bundle"):
        _ = replace(COMMAND, revision=revision).sha256


def test_a_package_without_a_bundle_is_refused_by_name() -> None:
    revision = {"revisionType": "Package", "package": {"name": "shop", "asset": None, "sha256": "0" * 64}}
    with pytest.raises(CommandRefused, match="natively"):
        _ = replace(COMMAND, revision=revision).sha256
    bundle = {"revisionType": "Package", "package": {"name": "shop", "asset": "shop.tgz", "sha256": "0" * 64}}
    assert replace(COMMAND, revision=bundle).sha256 == "0" * 64


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=12))
def test_numbers_go_up_alone_whenever_the_agent_starts_anew(offered: list[tuple[int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory, taken = Memory(Path(folder), "id-1"), []
        for sequence, starts_anew in offered:
            if starts_anew:
                memory = Memory(Path(folder), "id-1")
            try:
                trust = replace(TRUST, last_sequence=memory.sequence)
                trust.accept(*sign_command(replace(COMMAND, sequence=sequence), KEY.sign), NOW)
            except CommandRefused:
                continue
            memory.accept(sequence)
            taken.append(sequence)
        assert taken == sorted(set(taken))
        assert Memory(Path(folder), "id-2").sequence == 0  # another enrolment counts anew


def test_a_memory_that_cannot_be_read_is_not_forgotten(tmp_path: Path) -> None:
    Memory(tmp_path, "id-1").accept(7)
    (tmp_path / "agent-memory.json").write_text("{")
    with pytest.raises(AgentFault, match="cannot be read"):
        Memory(tmp_path, "id-1")
