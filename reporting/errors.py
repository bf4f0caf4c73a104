"""Errors of reporting.

RejectedInput (inference.errors)
└── NoRoomForMarker (reporting.marker)   no air for the label that every virtual image must carry
ReportingError
└── CheckFailed       an object that was built is not what it has to be; a defect of the product
"""

from __future__ import annotations


class ReportingError(Exception):
    """Root of the errors of this package that are no refusals."""


class CheckFailed(ReportingError):
    """An object is not fit to be sent; the message names the attribute and the rule."""
