"""Ask PyPI's vulnerability service about every installed dependency: python tests/audit_dependencies.py.

pip-audit counts what it cannot ask about as passed. Here that is a failure: where the service is not
reached, nothing was audited. Exit codes: 0 nothing is known, 1 a vulnerability is known, 2 not asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

OWN = frozenset({"hepatocast"})
"""What is not published there."""
CLEAN, VULNERABLE, NOT_ASKED = 0, 1, 2
SHOWN = 5


def judge(dependencies: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Return the exit code and what to say, from pip-audit's list of dependencies."""
    others = [d for d in dependencies if d["name"] not in OWN]
    skipped = [str(d["name"]) for d in others if "skip_reason" in d]
    known = [(d, v) for d in others for v in d.get("vulns", ())]
    lines = [f"{d['name']} {d['version']}: {v['id']}, fixed in {v['fix_versions']}" for d, v in known]
    if skipped or not others:
        names = ", ".join(skipped[:SHOWN]) + (", ..." if len(skipped) > SHOWN else "")
        lines.append(f"{len(skipped)} of {len(others)} dependencies could not be asked about ({names})")
        lines.append("the vulnerability service was not reached, or does not know them; nothing is proved")
    if known:
        return VULNERABLE, lines
    if skipped or not others:
        return NOT_ASKED, lines
    return CLEAN, [f"{len(others)} dependencies, no known vulnerability"]


def main() -> int:
    """Run pip-audit and judge what it says."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, "--skip-editable"], capture_output=True, text=True, check=False)
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        dependencies = []
        sys.stderr.write(done.stderr[-2000:])
    code, lines = judge(dependencies)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
