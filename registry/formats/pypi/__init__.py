"""The Python package index protocol (PEP 503, 691, 592, 629, 658, 700, 714, 740, 792 and the legacy upload)."""

from registry.format import Format
from registry.formats.pypi.pure import PurePypi

FORMAT: Format = PurePypi()

__all__ = ["FORMAT"]
