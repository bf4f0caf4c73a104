"""Stand-ins for site segmenters: programs on PATH that answer with labels made of the image."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

_COMMON = """#!{python}
import sys, time
from pathlib import Path
import numpy as np
import SimpleITK as sitk

def value(flag):
    return sys.argv[sys.argv.index(flag) + 1]

def labels_of(path, low, high):
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    made = sitk.GetImageFromArray(((array > low) & (array < high)).astype(np.uint8))
    made.CopyInformation(image)
    return made

with open({log!r}, "a") as stream:
    stream.write(" ".join(sys.argv[1:]) + "\\n")
"""


def write_program(path: Path, body: str) -> Path:
    """Write an executable of Python code; ``labels_of`` and ``value`` are there, calls are logged beside."""
    log = str(path.with_suffix(".log"))
    path.write_text(_COMMON.format(python=sys.executable, log=log) + body, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
