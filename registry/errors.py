"""What the registry can refuse or fail to do, as facts; ``registry.http.problems`` alone turns them into a status."""

from __future__ import annotations


class Problem(Exception):
    """Base: ``str()`` is one line a person can act on; it never holds a secret."""

    code = "problem"


class NotFound(Problem):
    """Sure that it does not exist (for this caller)."""

    code = "not_found"

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"{what} {name!r} was not found")
        self.what = what
        self.name = name


class Invalid(Problem):
    """The request breaks a rule; nothing was stored. ``rule`` says which rule and what to do."""

    code = "invalid"

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class NameUsed(Invalid):
    """A file of that name was here, with other bytes, and was deleted: it never comes back with these."""

    code = "name_used"


class InvalidDocument(Invalid):
    """A document breaks several rules: all of them at once, each with its place (``line 4: …``).

    ``warnings`` is what was odd besides; it is for who writes the document, and no part of the message.
    """

    code = "invalid_document"

    def __init__(self, document: str, faults: list[str], warnings: tuple[str, ...] = ()) -> None:
        super().__init__(f"{document}: " + "; ".join(faults))
        self.document = document
        self.faults = faults
        self.warnings = warnings


class Gone(Problem):
    """Something that once could be asked for, and that nobody serves any more."""

    code = "gone"


class NotAcceptable(Problem):
    """There is no representation that the caller accepts."""

    code = "not_acceptable"


class Conflict(Problem):
    """The name is taken by something else, or the state moved on; repeating the request will not help."""

    code = "conflict"


class FileExists(Conflict):
    """Another file of that name, with other bytes, is there already (or was, and was deleted)."""

    code = "file_exists"

    def __init__(self, filename: str) -> None:
        super().__init__(
            f"File already exists: {filename} is here with other content, and a published file never changes"
        )
        self.filename = filename


class Unauthenticated(Problem):
    """Nobody was named, or the credential is unknown, expired or revoked."""

    code = "unauthenticated"


class Denied(Problem):
    """The caller is known and may not do this."""

    code = "denied"


class RateLimited(Problem):
    """Too many attempts in too short a time; the same request may succeed after ``retry_after_seconds``."""

    code = "rate_limited"

    def __init__(self, what: str, retry_after_seconds: int) -> None:
        super().__init__(f"{what}; try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class Misdirected(Problem):
    """The request names a host that this server is not known by (RFC 9110 §15.5.20)."""

    code = "misdirected"


class TooLarge(Problem):
    """The body or a part of it is over a limit."""

    code = "too_large"

    def __init__(self, what: str, limit_bytes: int) -> None:
        super().__init__(f"{what} is larger than the limit of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class QuotaExceeded(Problem):
    """What may be published in a repository or a domain is used up; nothing was kept."""

    code = "quota_exceeded"

    def __init__(self, what: str, quota_bytes: int, used_bytes: int) -> None:
        super().__init__(
            f"{what} may hold {quota_bytes} bytes and would hold {used_bytes}: delete versions that nobody needs, or"
            " have an administrator raise the quota"
        )
        self.quota_bytes = quota_bytes


class Unavailable(Problem):
    """It could not be found out or done now; the same request may succeed later. Never means "does not exist"."""

    code = "unavailable"

    def __init__(self, what: str, retry_after_seconds: int = 5) -> None:
        super().__init__(what)
        self.retry_after_seconds = retry_after_seconds


class UpstreamUnavailable(Unavailable):
    """An upstream gave no usable answer (time-out, refused, 5xx, nonsense) and nothing stale can stand in."""

    code = "upstream_unavailable"


class OutOfSpace(Unavailable):
    """The server's disk is full; nothing was kept."""

    code = "out_of_space"
