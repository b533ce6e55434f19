"""The npm registry protocol: packuments, tarballs, publishing, dist-tags, sign-in, audits and signatures."""

from registry.format import Format
from registry.formats.npm.pure import PureNpm

FORMAT: Format = PureNpm()

__all__ = ["FORMAT"]
