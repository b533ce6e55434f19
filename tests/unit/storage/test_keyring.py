import base64
import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import Damaged, KeyUnavailable
from storage.keyfile import LocalKeyFile
from storage.keyring import Keyring, WrappedKey


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "master.json"


def secrets_in(path: Path) -> list[str]:
    """Every way in which the keys of a file could show in a text."""
    keys = [base64.b64decode(text) for text in json.loads(path.read_text())["keys"].values()]
    return [form for key in keys for form in (base64.b64encode(key).decode(), key.hex(), repr(key)[2:20])]


def test_a_new_key_file_is_for_its_owner_alone(path: Path) -> None:
    created = LocalKeyFile.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["master.json"]
    created.check()
    assert list(json.loads(path.read_text())["keys"]) == [created.current_id()]


def test_a_key_file_is_never_overwritten(path: Path) -> None:
    LocalKeyFile.create(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        LocalKeyFile.create(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["master.json"]


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o644, 0o660, 0o777])
def test_a_key_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    provider = LocalKeyFile.create(path)
    path.chmod(mode)
    with pytest.raises(KeyUnavailable, match=f"mode {mode:04o}.*chmod 600"):
        provider.check()
    with pytest.raises(KeyUnavailable):
        provider.wrap(bytes(32), "c")
    path.chmod(0o400)
    provider.check()


def test_an_absent_key_file_is_named(path: Path) -> None:
    with pytest.raises(KeyUnavailable, match="cannot be read"):
        LocalKeyFile(path).check()
    path.mkdir(parents=True)
    with pytest.raises(KeyUnavailable, match="is not a file"):
        LocalKeyFile(path).check()


def _resized(document: dict, length: int) -> str:
    key_id = document["current"]
    document["keys"][key_id] = base64.b64encode(base64.b64decode(document["keys"][key_id] * 2)[:length]).decode()
    return json.dumps(document)


def _with(document: dict, **changes: object) -> str:
    return json.dumps({**document, **changes})


SPOILED: dict[str, tuple[Callable[[dict], str], str]] = {
    "empty": (lambda d: "", "not JSON"),
    "torn": (lambda d: json.dumps(d)[:-5], "not JSON"),
    "deep": (lambda d: "[" * 30_000, "not JSON"),
    "a list": (lambda d: json.dumps([d]), "not a key file"),
    "newer": (lambda d: _with(d, format=2), "not a key file of format 1"),
    "large": (lambda d: json.dumps(d) + " " * 70_000, "larger than"),
    "short key": (lambda d: _resized(d, 31), "31 bytes instead of 32"),
    "no base64": (lambda d: _with(d, keys={d["current"]: "%" + d["keys"][d["current"]]}), "not base64"),
    "number": (lambda d: _with(d, keys={d["current"]: 7}), "not base64"),
    "other name": (lambda d: _with(d, keys={"0" * 16: d["keys"][d["current"]]}), "not the key that its name says"),
    "no current": (lambda d: _with(d, current="0" * 16), "current key is not among"),
    "no keys": (lambda d: _with(d, keys={}), "current key is not among"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILED.values(), ids=SPOILED.keys())
def test_a_spoiled_key_file_is_refused_without_showing_a_key(
    path: Path, spoil: Callable[[dict], str], message: str
) -> None:
    provider = LocalKeyFile.create(path)
    secrets = secrets_in(path)
    path.write_text(spoil(json.loads(path.read_text())))
    with pytest.raises(KeyUnavailable, match=message) as caught:
        provider.check()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert not any(secret in shown for secret in secrets)


def test_nothing_shows_key_material(path: Path) -> None:
    provider = LocalKeyFile.create(path)
    keyring = Keyring(provider, "default")
    key = keyring.new_key()
    keyring.add(key)
    shown = f"{provider!r} {provider} {keyring!r} {key!r} {provider._read()!r} {vars(provider)}"
    assert not any(secret in shown for secret in secrets_in(path))
    assert str(path) in shown
    assert repr(key.wrapped) not in shown


def test_the_wrong_master_key_is_named_at_start(path: Path, tmp_path: Path) -> None:
    right = LocalKeyFile.create(path)
    keyring = Keyring(right, "default")
    key = keyring.new_key()
    wrong = LocalKeyFile.create(tmp_path / "other.json")
    started = Keyring(wrong, "default")
    started.add(key)
    with pytest.raises(KeyUnavailable, match="wrong master key") as caught:
        started.check()
    assert right.current_id() in str(caught.value)
    assert wrong.current_id() in str(caught.value)
    keyring.add(key)
    keyring.check()


def test_check_finds_one_bad_key_among_good_ones(keyring: Keyring) -> None:
    good = keyring.new_key()
    bad = WrappedKey(good.id, good.wrapped[:-1] + bytes([good.wrapped[-1] ^ 1]))
    assert keyring.check() == {}
    keyring.add(bad, current=False)
    assert list(keyring.check()) == [good.id]  # what it encrypts cannot be read; everything else can
    keyring.add(bad)
    with pytest.raises(KeyUnavailable):
        keyring.check()


class ForgetfulProvider:
    """A provider that answers with another key than it was given, as a misrouted key service would."""

    def wrap(self, key: bytes, context: str) -> bytes:
        return b"wrapped"

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        return os.urandom(32)

    def current_id(self) -> str:
        return "m"

    def check(self) -> None:
        return


def test_another_key_than_the_one_that_was_wrapped_is_not_used() -> None:
    keyring = Keyring(ForgetfulProvider(), "default")
    keyring.add(keyring.new_key())
    for use in (keyring.check, keyring.require_current, lambda: keyring.seal(b"x", "c")):
        with pytest.raises(KeyUnavailable, match="another key"):
            use()


def test_a_domain_key_opens_in_its_own_domain_only(key_file: LocalKeyFile, keyring: Keyring) -> None:
    key = keyring.new_key()
    other = Keyring(key_file, "other")
    other.add(key)
    with pytest.raises(KeyUnavailable):
        other.check()


def test_rotating_the_master_key(path: Path) -> None:
    provider = LocalKeyFile.create(path)
    keyring = Keyring(provider, "default")
    old = keyring.new_key()
    keyring.add(old)
    sealed = keyring.seal(b"secret", "c")
    first = provider.current_id()
    second = provider.rotate()
    assert provider.current_id() == second != first
    assert path.stat().st_mode & 0o777 == 0o600
    moved = keyring.rewrap(old)
    assert moved.id == old.id
    assert moved.wrapped != old.wrapped
    with pytest.raises(ValueError):
        provider.forget(second)
    provider.forget(first)
    provider.forget(first)

    def started_with(key: WrappedKey) -> Keyring:
        fresh = Keyring(LocalKeyFile(path), "default")
        fresh.add(key)
        return fresh

    assert started_with(moved).unseal(sealed, "c") == b"secret"
    with pytest.raises(KeyUnavailable, match="wrong master key"):
        started_with(old).check()
    assert [entry.name for entry in path.parent.iterdir()] == ["master.json"]


def test_a_rotated_domain_leaves_old_envelopes_readable(keyring: Keyring) -> None:
    first = keyring.current_id()
    envelope = keyring.wrap_data_key(b"k" * 32, "blob")
    keyring.add(keyring.new_key())
    assert keyring.key_id_of(keyring.wrap_data_key(b"k" * 32, "blob")) == keyring.current_id() != first
    assert keyring.unwrap_data_key(envelope, "blob") == b"k" * 32
    keyring.add(keyring.new_key(), current=False)
    assert keyring.key_id_of(keyring.seal(b"", "c")) == keyring.current_id()


def test_a_key_of_another_process_is_loaded_when_it_is_met(key_file: LocalKeyFile, keyring: Keyring) -> None:
    rows: dict[str, WrappedKey] = {}
    asked: list[str] = []

    def load(key_id: str) -> WrappedKey | None:
        asked.append(key_id)
        return rows.get(key_id)

    reader = Keyring(key_file, "default", load=load)
    mine = reader.new_key()
    reader.add(mine)
    rotated = keyring.new_key()
    keyring.add(rotated)
    sealed = keyring.seal(b"secret", "c")
    with pytest.raises(KeyUnavailable, match=rotated.id):
        reader.unseal(sealed, "c")
    rows[rotated.id] = rotated
    assert reader.unseal(sealed, "c") == b"secret"
    assert reader.unseal(sealed, "c") == b"secret"
    assert asked == [rotated.id, rotated.id]
    assert reader.current_id() == mine.id
    rows["f" * 16] = rotated  # a row that answers with another key than it was asked for
    with pytest.raises(KeyUnavailable):
        reader.unseal(sealed.replace(rotated.id.encode(), b"f" * 16), "c")


def test_an_unknown_key_without_a_loader(keyring: Keyring, key_file: LocalKeyFile) -> None:
    sealed = keyring.seal(b"secret", "c")
    empty = Keyring(key_file, "default")
    with pytest.raises(KeyUnavailable):
        empty.unseal(sealed, "c")
    with pytest.raises(KeyUnavailable, match="has no key"):
        empty.seal(b"x", "c")


@pytest.mark.parametrize("plain", [b"", b"x", os.urandom(5000)])
def test_what_is_sealed_opens_in_its_context_only(keyring: Keyring, plain: bytes) -> None:
    sealed = keyring.seal(plain, "connections:password:7")
    assert keyring.unseal(sealed, "connections:password:7") == plain
    assert sealed != keyring.seal(plain, "connections:password:7")
    for context in ("connections:password:8", "", "connections:password:77"):
        with pytest.raises(Damaged):
            keyring.unseal(sealed, context)


def test_a_field_is_no_data_key_and_a_data_key_no_field(keyring: Keyring) -> None:
    with pytest.raises(Damaged):
        keyring.unwrap_data_key(keyring.seal(b"k" * 32, "c"), "c")
    with pytest.raises(Damaged):
        keyring.unseal(keyring.wrap_data_key(b"k" * 32, "c"), "c")


def test_every_byte_of_a_sealed_field_counts(keyring: Keyring) -> None:
    sealed = keyring.seal(b"secret", "c")
    for offset in range(len(sealed)):
        spoiled = bytearray(sealed)
        spoiled[offset] ^= 1
        with pytest.raises((Damaged, KeyUnavailable)):
            keyring.unseal(bytes(spoiled), "c")
        with pytest.raises(Damaged):
            keyring.unseal(sealed[:offset], "c")
