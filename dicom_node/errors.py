"""Errors of the node.

    NodeError
    ├── ConfigurationError   a setting is wrong; the message names the file, the key and the fix
    ├── TransientError       worth trying again: peer away, disk full, database busy
    │   ├── StatusUnknown    a peer's answer was lost; the same object may be sent again
    │   ├── ProcessingFailed a peer failed on one object; worth a few tries, not endless ones
    │   └── OutOfRoom        the disk or the index cannot take an object now
    ├── PermanentError       trying again changes nothing; a person has to look
    │   ├── PeerRejected     a peer refused an association, a context or an object for good
    │   ├── RefusedObject    a received object that cannot be taken
    │   │   ├── InvalidUid         a UID breaks the grammar of PS3.5 section 9.1
    │   │   ├── UnreadableObject   no data set, a damaged one, or one without the needed UIDs
    │   │   └── MismatchedObject   the data set is not what its command says
    │   ├── DamagedFile     a file of this node is not what was written
    │   └── IllegalTransition   a state change that the table does not have
    └── LeaseLost            another worker holds the job; its results are not accepted

Broad ``except`` is allowed at three places only: the worker's loop, what repeats, and event handlers.
"""

from __future__ import annotations


class NodeError(Exception):
    """Root of all errors raised in this package."""


class ConfigurationError(NodeError):
    """A setting is wrong."""


class TransientError(NodeError):
    """Worth trying again later."""


class StatusUnknown(TransientError):
    """A peer's answer did not arrive; what was sent may or may not be stored."""


class ProcessingFailed(TransientError):
    """A peer failed on one object; worth a few tries."""


class OutOfRoom(TransientError):
    """The disk or the index cannot take an object now."""


class PermanentError(NodeError):
    """Trying again changes nothing."""


class PeerRejected(PermanentError):
    """A peer refused for good."""


class RefusedObject(PermanentError):
    """A received object that cannot be taken; the message has no patient data."""


class InvalidUid(RefusedObject):
    """A UID breaks the grammar of PS3.5 section 9.1."""


class UnreadableObject(RefusedObject):
    """No data set, a damaged one, or one without the needed UIDs."""


class MismatchedObject(RefusedObject):
    """The data set is not what its command says."""


class DamagedFile(PermanentError):
    """A file that this node keeps is not what was written."""


class IllegalTransition(PermanentError):
    """The table of states has no such transition."""


class LeaseLost(NodeError):
    """The lease of a job has passed to another worker."""
