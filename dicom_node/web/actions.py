"""What people do on the operator's page: the ledger's own functions, and who did it, in the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dicom_node.audit.decisions import Choice, Decisions, Verdict
from dicom_node.audit.events import AuditEvents, PersonAction
from dicom_node.errors import ConfigurationError, PermanentError
from dicom_node.jobs.engine import Engine
from dicom_node.jobs.ledger import Ledger
from dicom_node.jobs.reviews import REJECTED_REASON, Reviews
from dicom_node.jobs.states import REVISION_TRANSITIONS, Revision, RevisionEvent
from dicom_node.web.users import Right, User

LONGEST_REASON = 500


class Forbidden(PermanentError):
    """The user's role has no right to this."""


EVENTS: Mapping[Right, tuple[RevisionEvent, ...]] = {
    Right.RELEASE: (RevisionEvent.REVIEW_RELEASED,),
    Right.REJECT: (RevisionEvent.REVIEW_REJECTED,),
    Right.RETRY: (RevisionEvent.RETRY, RevisionEvent.DELIVERY_RETRIED),
    Right.CANCEL: (RevisionEvent.CANCEL,),
}


def possible(state: Revision) -> tuple[Right, ...]:
    """Return what may be done with a revision in this state."""
    return tuple(r for r, events in EVENTS.items() if any((state, e) in REVISION_TRANSITIONS for e in events))


@dataclass(frozen=True)
class Actions:
    """Does what a user asks for, if the user may."""

    ledger: Ledger
    engine: Engine

    def do(self, right: Right, revision_id: int, user: User, form: Mapping[str, str]) -> str:
        """Do it and return one sentence about it.

        Raises
        ------
        Forbidden
            The user may not.
        IllegalTransition, ConfigurationError
            It makes no sense now; the message says why.
        """
        if not user.may(right):
            raise Forbidden(f"the role {user.role} has no right to {right}")
        work: Mapping[Right, Callable[[int, User, Mapping[str, str]], str]] = {
            Right.RETRY: self._retry,
            Right.CANCEL: self._cancel,
            Right.RELEASE: self._release,
            Right.REJECT: self._reject,
            Right.DECIDE: self._decide,
        }
        row = self.ledger.revision(revision_id)
        said = work[right](revision_id, user, form)
        if right is not Right.DECIDE:  # a decision has an event of its own
            done = PersonAction(user.name, str(right), revision_id, row.study_instance_uid, _reason(form))
            AuditEvents(self.ledger.database, self.ledger.clock).record(done.event())
        return said

    def _retry(self, revision_id: int, _user: User, _form: Mapping[str, str]) -> str:
        return f"revision {revision_id} is {self.ledger.retry(revision_id)}"

    def _cancel(self, revision_id: int, _user: User, _form: Mapping[str, str]) -> str:
        self.engine.cancel(self.ledger.cancel(revision_id).job_key)
        return f"revision {revision_id} is {Revision.CANCELLED}"

    def _release(self, revision_id: int, _user: User, _form: Mapping[str, str]) -> str:
        return f"revision {revision_id} is {Reviews(self.ledger).release(revision_id)}"

    def _reject(self, revision_id: int, _user: User, form: Mapping[str, str]) -> str:
        reason = _reason(form)
        text = f"{REJECTED_REASON}: {reason}" if reason else REJECTED_REASON
        return f"revision {revision_id} is {Reviews(self.ledger).reject(revision_id, text)}"

    def _decide(self, revision_id: int, user: User, form: Mapping[str, str]) -> str:
        verdict = form.get("verdict", "")
        if verdict not in [str(v) for v in Verdict]:
            raise ConfigurationError("say whether you agree with the forecast or override it")
        choice = Choice(user.name, Verdict(verdict), form.get("regimen", ""), form.get("reason", ""))
        made = Decisions(self.ledger.database, self.ledger.clock).add(revision_id, choice)
        return f"decision {made.id} on revision {revision_id} is recorded"


def _reason(form: Mapping[str, str]) -> str:
    return " ".join(form.get("reason", "").split())[:LONGEST_REASON]
