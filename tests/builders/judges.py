"""Independent validators of DICOM objects, and the few complaints of theirs that are not defects.

Each function returns complaints as lines; an empty list means that the object is clean.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

JAVA_OPTIONS = " ".join(
    (
        "-XX:MaxRAMPercentage=60",
        "-XX:+UseSerialGC",
        "-Djdk.xml.xpathTotalOpLimit=0",
        "-Djdk.xml.xpathExprOpLimit=0",
        "-Djdk.xml.xpathExprGrpLimit=0",
    )
)
"""DicomSRValidator needs Java's limits on XPath lifted, and memory for long reports."""

SYNTHETIC_DATA = r"\(0x0008,0x001c\)"
PRIVATE_TERMS = r"<(99HEPATOCAST|VIRTUAL_FOLLOWUP|2\.25\.\d+|HC\w+|R-\w+)>"

ALLOWED: Sequence[re.Pattern[str]] = [
    re.compile(pattern)
    for pattern in (
        # Synthetic Data (0008,001C) is younger than the dictionary of dicom3tools.
        SYNTHETIC_DATA,
        r"Dicom dataset contains attributes not present in standard DICOM IOD",
        # A private coding scheme and our own Image Type value 4.
        rf"Unrecognized defined term {PRIVATE_TERMS}",
        # A structured report has its Accession Number at the study by one table and the series by another.
        r"<AccessionNumber> IE <(Series> versus <Study|Study> versus <Series)>",
        # The source has an empty Patient ID or Study ID, which is allowed (type 2).
        r"needed to build DICOMDIR - (Patient ID|Study ID|Study Date|Study Time)$",
    )
]
"""Leftovers that the design allows, for dicom3tools."""

SR_ALLOWED = re.compile(r"Warning: .*Content Item not in template")
"""PixelMed: qualitative evaluations beside those that a template lists are allowed by PS3.16, but noted."""


def dciodvfy(program: str, path: Path) -> list[str]:
    """Return what dciodvfy says about one object beside what is allowed."""
    done = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", check=False)
    return _not_allowed(done.stdout.splitlines() + done.stderr.splitlines())


def dcentvfy(program: str, paths: Iterable[Path]) -> list[str]:
    """Return the inconsistencies between objects of one study."""
    done = subprocess.run(
        [program, *map(str, paths)], capture_output=True, text=True, errors="replace", check=False
    )
    return _not_allowed(done.stdout.splitlines() + done.stderr.splitlines())


def sr_validator(program: str, path: Path) -> list[str]:
    """Return what PixelMed's DicomSRValidator says about a structured report beside what is allowed."""
    done = subprocess.run(
        [program, str(path)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "JAVA_TOOL_OPTIONS": JAVA_OPTIONS},
    )
    lines = done.stdout.splitlines() + done.stderr.splitlines()
    assert any("validat" in line.lower() or "Found" in line for line in lines), lines
    complaints = [line for line in lines if re.match(r"\s*(Error|Warning)", line)]
    return [line for line in complaints if not SR_ALLOWED.search(line)]


def dsrdump(program: str, path: Path) -> list[str]:
    """Return the warnings and errors of dsrdump, which must also print a document."""
    done = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", check=False)
    complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:", "F:"))]
    return complaints if done.returncode == 0 and done.stdout.strip() else [*complaints, "no document"]


def _not_allowed(lines: Iterable[str]) -> list[str]:
    complaints = [line for line in lines if re.match(r"(Error|Warning|Abort)|.*(Error|Warning) -", line)]
    return [line for line in complaints if not any(p.search(line) for p in ALLOWED)]
