"""Checks of single clinical values: units are converted and never guessed, what is implausible is refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

from inference.case import ClinicalValue
from inference.clinical.rows import shown
from inference.clinical.variables import VARIABLES, Kind, Variable
from inference.errors import ClinicalError

_WORDS: Mapping[str, bool] = {
    "yes": True,
    "true": True,
    "1": True,
    "no": False,
    "false": False,
    "0": False,
}
_MICRO = str.maketrans({"µ": "u", "μ": "u"})


def clinical_value(name: str, value: object, unit: str | None, place: str) -> ClinicalValue:
    """Check one value of a clinical file; see `checked_value`."""
    where = f"Clinical file, {place}"
    return checked_value(known_variable(name, where, VARIABLES), value, unit, where)


def known_variable(name: str, where: str, table: Mapping[str, Variable]) -> Variable:
    """Return the variable of a name.

    Raises
    ------
    ClinicalError
        The table has none; the message names a similar one.
    """
    variable = table.get(name)
    if variable is None:
        close = difflib.get_close_matches(name, table, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "remove it, or see the table of variables."
        raise ClinicalError(f"{where}: {shown(name)} is not a known variable; {hint}")
    return variable


def checked_value(
    variable: Variable, value: object, unit: str | None, where: str, source: str = ""
) -> ClinicalValue:
    """Check one value and convert it to the unit of the table.

    Parameters
    ----------
    where : str
        What a message begins with, such as 'Clinical file, row 2'; never a patient.
    source : str
        Name of the source, kept with the value.

    Raises
    ------
    ClinicalError
        Unknown or missing unit, implausible or unreadable value.
    """
    name = variable.name
    if variable.kind is Kind.NUMBER:
        return ClinicalValue(name, _number(variable, value, unit, where), variable.unit, source)
    if unit:
        raise ClinicalError(f"{where}: '{name}' has no unit; remove [{unit.strip()[:20]}].")
    if variable.kind is Kind.YES_NO:
        return ClinicalValue(name, _yes_no(variable, value, where), source=source)
    return ClinicalValue(name, _category(variable, value, where), source=source)


def _factor(variable: Variable, unit: str | None, where: str) -> float:
    accepted = _accepted(variable)
    if not variable.units:
        if unit and unit.strip() not in ("1", "-"):
            raise ClinicalError(f"{where}: '{variable.name}' is a pure number; remove [{unit}].")
        return 1.0
    if not unit or not unit.strip():
        if len(set(variable.units.values())) == 1:
            return next(iter(variable.units.values()))
        raise ClinicalError(
            f"{where}: '{variable.name}' has no unit; write it like "
            f"'{variable.name} [{variable.unit}]' (accepted: {accepted})."
        )
    key = unit.strip().translate(_MICRO).lower()
    if key not in variable.units:
        raise ClinicalError(
            f"{where}: unit [{unit.strip()[:20]}] of '{variable.name}' is not known; use one of {accepted}."
        )
    return variable.units[key]


def _accepted(variable: Variable) -> str:
    return ", ".join(variable.units)


def _number(variable: Variable, value: object, unit: str | None, where: str) -> float:
    factor = _factor(variable, unit, where)
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        number = float(value) * factor
    except ValueError:
        raise ClinicalError(
            f"{where}: '{variable.name}' is not a number; write digits with a decimal point."
        ) from None
    if not math.isfinite(number) or not variable.low <= number <= variable.high:
        given = (unit or variable.unit or "1").strip()[:20]
        raise ClinicalError(
            f"{where}: '{variable.name}' is outside the plausible {variable.low:g} to "
            f"{variable.high:g} {variable.unit or '(no unit)'}; check the value and its unit [{given}]."
        )
    if variable.whole and number != int(number):
        raise ClinicalError(f"{where}: '{variable.name}' must be a whole number.")
    return number


def _yes_no(variable: Variable, value: object, where: str) -> bool:
    answer = _WORDS.get(str(value).strip().lower())
    if answer is None:
        raise ClinicalError(f"{where}: '{variable.name}' must be yes or no.")
    return answer


def _category(variable: Variable, value: object, where: str) -> str:
    names = {c.lower(): c for c in variable.categories}
    category = names.get(str(value).strip().lower())
    if category is None:
        choices: Sequence[str] = variable.categories
        raise ClinicalError(f"{where}: '{variable.name}' must be one of {', '.join(choices)}.")
    return category
