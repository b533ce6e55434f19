from pathlib import Path

import pytest

from storage.encrypted import EncryptedStore
from storage.filesystem import FileSystemStore
from storage.keyfile import LocalKeyFile
from storage.keyring import Keyring


@pytest.fixture
def key_file(tmp_path: Path) -> LocalKeyFile:
    return LocalKeyFile.create(tmp_path / "keys" / "master.json")


@pytest.fixture
def keyring(key_file: LocalKeyFile) -> Keyring:
    keyring = Keyring(key_file, "default")
    keyring.add(keyring.new_key())
    return keyring


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def plain(root: Path) -> FileSystemStore:
    return FileSystemStore(root)


@pytest.fixture
def store(plain: FileSystemStore, keyring: Keyring) -> EncryptedStore:
    """Chunks of 4 KiB, so that a small blob has several."""
    return EncryptedStore(plain, keyring, chunk_log2=12)
