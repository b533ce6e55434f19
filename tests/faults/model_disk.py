"""A disk in memory that remembers what was synced, and builds every state that a power loss may leave.

Writes that were not synced are dropped, torn at a sector, or reordered by page; names that were not synced are missing
or still there; all in every combination. That is weaker than what a journalling file system promises (a rename may be
half done), so what survives here survives there.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from storage.disk import Disk

SECTOR, PAGE = 512, 4096


@dataclass(eq=False)
class File:
    """Append-only bytes, of which the first ``synced_bytes`` are on the medium."""

    content: bytes = b""
    synced_bytes: int = 0

    def after_power_loss(self) -> Iterator[bytes]:
        """Every content that may be found: cut at a sector, or of full length with some pages never written."""
        synced, size = self.synced_bytes, len(self.content)
        cuts = {synced, size, *range(synced - synced % SECTOR + SECTOR, size, SECTOR)}
        for cut in sorted(cuts):
            yield self.content[:cut]
        pages = range(synced - synced % PAGE, size, PAGE)
        for lost in itertools.product((False, True), repeat=len(pages)):
            if any(lost):
                content = bytearray(self.content)
                for page in itertools.compress(pages, lost):
                    start, stop = max(page, synced), min(page + PAGE, size)
                    content[start:stop] = bytes(stop - start)
                yield bytes(content)


@dataclass(eq=False)
class Directory:
    """Names as they are, and as they are on the medium; between them the changes that are not synced."""

    names: dict = field(default_factory=dict)
    durable: dict = field(default_factory=dict)
    unsynced: list = field(default_factory=list)

    def change(self, name: str, node: "File | Directory | None") -> None:
        self.unsynced.append((name, node))
        self._apply(self.names, name, node)

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.unsynced.clear()

    def after_power_loss(self) -> Iterator[dict]:
        """The durable names with any part of the unsynced changes."""
        for happened in itertools.product((False, True), repeat=len(self.unsynced)):
            names = dict(self.durable)
            for name, node in itertools.compress(self.unsynced, happened):
                self._apply(names, name, node)
            yield names

    @staticmethod
    def _apply(names: dict, name: str, node: "File | Directory | None") -> None:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class ModelDisk(Disk):
    """A disk in memory. ``watch`` is called before every change, when a power loss may come."""

    def __init__(self, top: Directory | None = None, *, watch: Callable[[], None] = lambda: None) -> None:
        if top is None:
            volume = Directory()
            top = Directory({"volume": volume}, {"volume": volume})
        self._top = top
        self._open: dict[int, File] = {}
        self._numbers = itertools.count(3)
        self.watch = watch

    def create(self, path: Path) -> int:
        self.watch()
        parent = self._directory(path.parent)
        if path.name in parent.names:
            raise FileExistsError(path)
        file = File()
        parent.change(path.name, file)
        return self._descriptor(file)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        self.watch()
        self._open[descriptor].content += bytes(data)
        return len(data)

    def sync(self, descriptor: int) -> None:
        self.watch()
        file = self._open[descriptor]
        file.synced_bytes = len(file.content)

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]

    def rename(self, source: Path, target: Path) -> None:
        self.watch()
        node = self._node(source)
        into = self._directory(target.parent)
        self._directory(source.parent).change(source.name, None)
        into.change(target.name, node)

    def unlink(self, path: Path) -> None:
        self.watch()
        self._node(path)
        self._directory(path.parent).change(path.name, None)

    def mkdir(self, path: Path) -> None:
        self.watch()
        parent = self._directory(path.parent)
        if path.name in parent.names:
            raise FileExistsError(path)
        parent.change(path.name, Directory())

    def sync_directory(self, path: Path) -> None:
        self.watch()
        self._directory(path).sync()

    def open(self, path: Path) -> int:
        return self._descriptor(self._node(path))

    def read(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        return self._open[descriptor].content[offset : offset + size_bytes]

    def size_of_open(self, descriptor: int) -> int:
        return len(self._open[descriptor].content)

    def size(self, path: Path) -> int:
        return len(self._node(path).content)

    def names(self, path: Path) -> list[str]:
        return list(self._directory(path).names)

    def is_directory(self, path: Path) -> bool:
        try:
            return isinstance(self._node(path), Directory)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def states_after_power_loss(self) -> Iterator["ModelDisk"]:
        """Every disk that may be found when the power goes now."""
        nodes = list(self._all_nodes(self._top, set()))
        for found in itertools.product(*([*node.after_power_loss()] for node in nodes)):
            yield ModelDisk(self._rebuilt(self._top, dict(zip(map(id, nodes), found, strict=True))))

    def _all_nodes(self, node: "File | Directory", seen: set) -> Iterator["File | Directory"]:
        if id(node) in seen:
            return
        seen.add(id(node))
        yield node
        if isinstance(node, Directory):
            changed = [changed for _, changed in node.unsynced if changed is not None]
            for child in (*node.durable.values(), *node.names.values(), *changed):
                yield from self._all_nodes(child, seen)

    def _rebuilt(self, node: "File | Directory", found: dict) -> "File | Directory":
        state = found[id(node)]
        if isinstance(node, File):
            return File(state, len(state))
        names = {name: self._rebuilt(child, found) for name, child in state.items()}
        return Directory(names, dict(names))

    def _descriptor(self, file: File) -> int:
        number = next(self._numbers)
        self._open[number] = file
        return number

    def _node(self, path: Path) -> "File | Directory":
        node = self._top
        for part in path.parts[1:]:
            if not isinstance(node, Directory):
                raise NotADirectoryError(path)
            if part not in node.names:
                raise FileNotFoundError(path)
            node = node.names[part]
        return node

    def _directory(self, path: Path) -> Directory:
        node = self._node(path)
        if not isinstance(node, Directory):
            raise NotADirectoryError(path)
        return node
