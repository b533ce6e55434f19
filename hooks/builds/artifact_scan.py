"""Looking for secrets in what a build leaves as its artifact: an accident that is cheap to stop here, and nowhere later.

As with logs, this is no protection against a build that wants to tell (it may encrypt). Found are the build's own secrets
in the forms that masking knows, and any token of this server, in the files of the zip as they are when unpacked.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import BinaryIO

from hooks.builds.artifact_reading import NOT_READABLE, Unreadable, open_zip
from hooks.builds.executor import Refused
from hooks.builds.masking import Detector
from registry.token_finder import Finder

MAX_UNPACKED_BYTES = 16 * 1024**3
_READ_BYTES = 256 * 1024
MIN_LENGTH = 8
"""Shorter secrets are not looked for: in the files of an artifact they are found by chance."""


def scan(body: BinaryIO, secrets: Collection[str]) -> set[str]:
    """Tokens of this server in the members of a zip, for whoever judges which are live.

    Raises Refused for a zip that cannot be read, unpacks to more than any sandbox holds, or holds one of ``secrets``.
    """
    detector = Detector(secret for secret in secrets if len(secret.strip()) >= MIN_LENGTH)
    left = MAX_UNPACKED_BYTES
    tokens: set[str] = set()
    try:
        with open_zip(body) as archive:
            for member in archive.infolist():
                finder = Finder()
                detector.restart()
                with archive.open(member) as stream:
                    while data := stream.read(_READ_BYTES):
                        left -= len(data)
                        if left < 0:
                            raise Refused(f"the artifact unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                        tokens |= finder.feed(data)
                        if detector.feed(data):
                            raise Refused(f"{member.filename} in the artifact holds a secret of the build")
    except (Unreadable, *NOT_READABLE) as error:
        raise Refused(f"the sandbox sent something that is no readable zip: {error}") from error
    return tokens
