"""Small parts of the groups of the ``report``."""

from __future__ import annotations

from highdicom import sr
from pydicom.sr.coding import Code

from inference.results import NotAssessed
from reporting import codes
from reporting.context import Context

Group = sr.MeasurementsAndQualitativeEvaluations


def measured(
    concept: Code,
    value: float,
    units: Code,
    method: Code | None = None,
    derivation: Code | None = None,
) -> sr.Measurement:
    """Return a measurement, rounded to hundredths."""
    return sr.Measurement(
        name=concept, value=round(float(value), 2), unit=units, method=method, derivation=derivation
    )


def share(concept: Code, value: float, derivation: Code | None = None) -> sr.Measurement:
    """Return a probability, a ratio or a score, rounded to four digits."""
    return sr.Measurement(name=concept, value=round(float(value), 4), unit=codes.ONE, derivation=derivation)


def tracking(context: Context, identifier: str) -> sr.TrackingIdentifier:
    """Return the identifier of a group; the same in every report of the job."""
    return sr.TrackingIdentifier(uid=context.uids.derive("tracking", identifier), identifier=identifier)


def reason(refusal: NotAssessed) -> sr.QualitativeEvaluation:
    """Return why something was not assessed, as a code; the words stand in the text part."""
    return sr.QualitativeEvaluation(codes.REASON_NOT_ASSESSED, codes.REASONS[refusal.reason])
