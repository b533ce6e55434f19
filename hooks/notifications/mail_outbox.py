"""Mails that wait to be handed over: rows, and the job that hands them over. A mail server that is away delays them only."""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from hooks.jobs.context import JobContext
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.job import Job, JobState
from hooks.models.notification import MailMessage
from hooks.notifications.fanout import QUEUE
from hooks.notifications.mail_server import UNREACHABLE, Mail, MailServer, Refused
from registry.clock import Clock
from registry.db import Database

log = logging.getLogger("entrepot.mail")

JOB_KIND = "send_mail"
_BATCH = 50
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 15.0, 900.0
_LONGEST_SUBJECT = 150


def queue(session: Session, account_id: int, recipient: str, subject: str, body: str, now: datetime) -> None:
    """Put a mail in the outbox, in the caller's transaction."""
    session.add(
        MailMessage(
            message_id=uuid.uuid4().hex,
            account_id=account_id,
            recipient=recipient,
            subject=" ".join(f"[Entrepot] {subject}".split())[:_LONGEST_SUBJECT],
            body=body,
            due_at=now,
            created_at=now,
        )
    )


def wake_due(db: Database, now: datetime) -> None:
    """A job when there is something due and none; only reads when there is not."""
    with db.read() as session:
        due = session.scalar(select(MailMessage.id).where(MailMessage.due_at <= now).limit(1))
        running = select(Job.id).where(
            Job.queue == QUEUE, Job.kind == JOB_KIND, Job.state.in_([JobState.QUEUED, JobState.RUNNING])
        )
        is_busy = session.scalar(running.limit(1)) is not None
    if due is not None and not is_busy:
        with db.write() as session:
            enqueue(session, JOB_KIND, {}, queue=QUEUE, dedupe=JOB_KIND, max_attempts=PATIENT_ATTEMPTS)


class Mailer:
    """The handler."""

    def __init__(self, db: Database, server: MailServer, clock: Clock) -> None:
        self._db = db
        self._server = server
        self._clock = clock

    def __call__(self, context: JobContext) -> None:
        """Hand over what is due, over one connection.

        Running twice is harmless: a mail that was taken and whose row is still there goes out again under the same
        Message-ID. What cannot be handed over now stays, and is tried again later.
        """
        with self._db.read() as session:
            now = self._clock()
            due = session.scalars(
                select(MailMessage).where(MailMessage.due_at <= now).order_by(MailMessage.id).limit(_BATCH)
            ).all()
        if due:
            self._hand_over(context, due)
        context.finish(JobState.SUCCEEDED)

    def _hand_over(self, context: JobContext, due: Sequence[MailMessage]) -> None:
        left = {row.id: row for row in due}
        try:
            with self._server.connection() as smtp:
                for row in due:
                    if context.should_stop():
                        return
                    try:
                        mail = Mail(row.message_id, row.recipient, row.subject, row.body, row.created_at)
                        self._server.hand_over(smtp, mail)
                    except Refused as refused:
                        log.warning("a mail is given up, the server refuses it: %s", refused)
                    del left[row.id]
                    context.step(functools.partial(_remove, row.id))
        except UNREACHABLE as error:
            reason = f"{type(error).__name__}: {error}"[:300]
            log.warning("mails wait, the mail server cannot be used: %s", reason)
            now = self._clock()
            context.step(lambda session: _postpone(session, list(left.values()), reason, now))


def _remove(message_id: int, session: Session) -> None:
    session.execute(delete(MailMessage).where(MailMessage.id == message_id))


def _postpone(session: Session, rows: Sequence[MailMessage], reason: str, now: datetime) -> None:
    for row in rows:
        wait_seconds = min(_FIRST_WAIT_SECONDS * 2.0 ** min(row.attempts, 10), _LONGEST_WAIT_SECONDS)
        session.execute(
            update(MailMessage)
            .where(MailMessage.id == row.id)
            .values(attempts=row.attempts + 1, due_at=now + timedelta(seconds=wait_seconds), error=reason)
        )
