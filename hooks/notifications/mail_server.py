"""Handing mails to the SMTP server of the settings (RFC 5321, with STARTTLS of RFC 3207 or TLS from the first byte)."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any

TIMEOUT_SECONDS = 15.0
UNREACHABLE = (OSError, smtplib.SMTPException)
"""What ``connection`` and ``hand_over`` raise when the server cannot be used now."""


class Refused(Exception):
    """The server refuses this mail for good (5xx); others may go."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail in plain text, to one recipient."""

    message_id: str
    recipient: str
    subject: str
    body: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MailServer:
    """``security`` is starttls, tls or none; ``user`` empty: nobody signs in. ``base_url`` is where links lead."""

    host: str
    port: int
    security: str
    user: str
    sender: str
    base_url: str
    password: str = field(default="", repr=False)
    ca_bundle: str | None = None

    @contextmanager
    def connection(self) -> Iterator[smtplib.SMTP]:
        """A session that mails can be handed over in. Raises one of UNREACHABLE."""
        if self.security == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=TIMEOUT_SECONDS, context=self._context()
            )
        else:
            smtp = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            if self.security == "starttls":
                smtp.starttls(context=self._context())  # refused by the server: raises, nothing goes in clear
            if self.user:
                smtp.login(self.user, self.password)
            yield smtp
        finally:
            _leave(smtp)

    def hand_over(self, smtp: smtplib.SMTP, mail: Mail) -> None:
        """Give one mail to the server. Raises Refused, or one of UNREACHABLE."""
        message = EmailMessage(policy=SMTP)
        message["From"] = self.sender
        message["To"] = mail.recipient
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(mail.at)
        message["Message-ID"] = f"<{mail.message_id}@{self.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answering machine answers
        message.set_content(mail.body)
        try:
            smtp.send_message(message, self.sender, [mail.recipient])
        except smtplib.SMTPRecipientsRefused as error:
            _sort(*error.recipients[mail.recipient], error)
        except smtplib.SMTPResponseException as error:
            _sort(error.smtp_code, error.smtp_error, error)

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_bundle)


def _sort(code: int, text: Any, error: Exception) -> None:
    if 500 <= code < 600:
        said = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
        raise Refused(f"{code} {said}"[:300]) from error
    raise error


def _leave(smtp: smtplib.SMTP) -> None:
    try:
        smtp.quit()
    except UNREACHABLE:
        smtp.close()  # it hung up first
