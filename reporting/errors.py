"""Errors of reporting.

RejectedInput (inference.errors)
└── NoRoomForMarker   no air for the label that every virtual image must carry
ReportingError
└── CheckFailed       an object that was built is not what it has to be; a defect of the product
"""

from __future__ import annotations

from inference.errors import RejectedInput


class NoRoomForMarker(RejectedInput):
    """The label of virtual images would cover the body; the study is refused."""


class ReportingError(Exception):
    """Root of the errors of this package that are no refusals."""


class CheckFailed(ReportingError):
    """An object is not fit to be sent; the message names the attribute and the rule."""
