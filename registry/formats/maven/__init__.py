"""The Maven repository layout (Maven 3 and 4, Gradle and whoever else speaks it): files, metadata, checksums, prefixes."""

from registry.format import Format
from registry.formats.maven.pure import PureMaven

FORMAT: Format = PureMaven()

__all__ = ["FORMAT"]
