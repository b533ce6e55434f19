"""Files of any kind, by name, version and path: what belongs to no other format, kept under the same rules."""

from registry.format import Format
from registry.formats.generic.pure import PureGeneric

FORMAT: Format = PureGeneric()

__all__ = ["FORMAT"]
