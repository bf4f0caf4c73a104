"""Who a study is of, for the audit trail only.

PS3.15 wants the patient's ID in most messages. By default a keyed hash is written instead: with the key a
site finds all messages of one patient, without it nobody learns who that is. A site whose rules ask for
the ID itself says so (`audit.patient_identity: patient_id`); then it stands in the audit trail and nowhere
else. The node keeps no table of patients: the ID is read from a file of the study when a message is made.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass, field

import sqlalchemy as sa
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.database import instance, reading
from dicom_node.errors import ConfigurationError, TransientError
from dicom_node.operation_settings import PatientIdentity
from dicom_node.secret_files import private_secret
from dicom_node.settings import NodeSettings
from dicom_node.storage.store import Store

REMEMBERED = 512
UNKNOWN = "unknown"
HASH_BYTES = 16
ATTRIBUTES = ("PatientID", "IssuerOfPatientID")
KINDS = {
    PatientIdentity.KEYED_HASH: "HMAC-SHA256 of Patient ID and issuer, first 128 bits, by the node's key",
    PatientIdentity.PATIENT_ID: "Patient ID and issuer",
}


def keyed_hash(key: str, patient_id: str, issuer: str) -> str:
    """Return the hash that stands for a patient."""
    content = f"{issuer}\0{patient_id}".encode()
    return hmac.new(key.encode(), content, hashlib.sha256).digest()[:HASH_BYTES].hex()


@dataclass
class Patients:
    """Finds what to write for the patient of a study."""

    settings: NodeSettings
    database: sa.Engine
    store: Store
    _known: OrderedDict[str, str] = field(default_factory=OrderedDict)

    @property
    def kind(self) -> str:
        """What the identity is, in words."""
        return KINDS[self.settings.audit.patient_identity]

    def of_study(self, study_instance_uid: str) -> str:
        """Return the identity of a study's patient; `UNKNOWN` where no file of it is here."""
        if study_instance_uid in self._known:
            self._known.move_to_end(study_instance_uid)
            return self._known[study_instance_uid]
        found = self._read(study_instance_uid)
        if found != UNKNOWN:
            self._known[study_instance_uid] = found
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _read(self, study_instance_uid: str) -> str:
        query = sa.select(instance.c.path).where(instance.c.study_instance_uid == study_instance_uid).limit(1)
        with reading(self.database) as connection:
            path = connection.execute(query).scalar()
        if path is None:
            return UNKNOWN
        identity = self._identity(str(path))
        if identity is None:
            return UNKNOWN
        patient_id, issuer = identity
        if self.settings.audit.patient_identity is PatientIdentity.PATIENT_ID:
            return f"{patient_id}^^^{issuer}" if issuer else patient_id
        return keyed_hash(self._key(), patient_id, issuer)

    def _key(self) -> str:
        source = self.settings.audit.patient_key
        if source is None:
            return private_secret(self.settings.audit.files(self.settings.data_dir) / "patient.key")
        try:
            return source.read()
        except ValueError as error:
            raise ConfigurationError(f"audit.patient_key: {error}") from error

    def _identity(self, key: str) -> tuple[str, str] | None:
        """Return Patient ID and issuer of a file, or None where it has none or cannot be read."""
        try:
            with self.store.open(key) as stream:
                ds = dcmread(stream, stop_before_pixels=True, specific_tags=list(ATTRIBUTES))
        except (OSError, InvalidDicomError, ValueError, EOFError, TransientError):
            return None
        patient_id, issuer = (str(ds.get(name) or "").strip() for name in ATTRIBUTES)
        return (patient_id, issuer) if patient_id else None
