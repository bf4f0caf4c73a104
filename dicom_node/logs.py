"""What of an unexpected error may be logged: where it came from, never its text.

Texts of errors of other libraries may quote attribute values, and so patient data.
"""

from __future__ import annotations

import traceback


def frames(error: BaseException) -> str:
    """Return the kind of an error and the lines of code it came through, without its message."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
