"""Dependencies: each has a lower bound, so that an old release with known holes is never good enough."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.audit_dependencies import judge

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = sorted({*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)})


@pytest.mark.parametrize("line", DECLARED)
def test_every_dependency_has_a_lower_bound(line):
    requirement = Requirement(line)
    assert requirement.url is None
    assert {s.operator for s in requirement.specifier} & {">=", "==", "~="}, line


def test_one_dependency_has_one_lower_bound():
    bounds: dict[str, set[str]] = {}
    for line in DECLARED:
        requirement = Requirement(line)
        bounds.setdefault(requirement.name.lower(), set()).add(str(requirement.specifier))
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


CLEAN_ONE = {"name": "jinja2", "version": "3.1.6", "vulns": []}
HOLED_ONE = {"name": "jinja2", "version": "3.1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["3.1.5"]}]}
SKIPPED_ONE = {"name": "yarl", "skip_reason": "Dependency not found on PyPI"}
OWN_ONE = {"name": "hepatocast", "skip_reason": "distribution marked as editable"}


@pytest.mark.parametrize(
    ("dependencies", "code", "words"),
    [
        ([CLEAN_ONE, OWN_ONE], 0, "1 dependencies, no known vulnerability"),
        ([CLEAN_ONE, HOLED_ONE], 1, "jinja2 3.1.0: CVE-1"),
        ([HOLED_ONE, SKIPPED_ONE], 1, "could not be asked about (yarl)"),
        ([CLEAN_ONE, SKIPPED_ONE], 2, "nothing is proved"),
        ([], 2, "nothing is proved"),
    ],
)
def test_audit_of_dependencies_never_passes_unasked(dependencies, code, words):
    found, lines = judge(dependencies)
    assert found == code
    assert words in " ".join(lines)
