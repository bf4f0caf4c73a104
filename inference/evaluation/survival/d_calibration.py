"""D-calibration: whether predicted curves, each at its patient's own time, are spread evenly over 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from inference.evaluation.survival.follow_up import FollowUp, checked_probability, need_events
from inference.results import FloatArray

BINS = 10


@dataclass(frozen=True, slots=True)
class DCalibration:
    """Patients in each bin of predicted survival, (bins,), and the test that the bins are equal.

    Attributes
    ----------
    counts : array, (bins,)
        From survival 0 to 1; a censored patient is shared among the bins below.
    statistic : float
        Pearson's chi-square with ``bins - 1`` degrees of freedom.
    p : float
        Small where the curves are not calibrated. Under much censoring the test is conservative: sharing
        out the censored patients evens the counts.
    """

    counts: FloatArray
    statistic: float
    p: float


def d_calibration(follow_up: FollowUp, survival: npt.ArrayLike, bins: int = BINS) -> DCalibration:
    """Test predicted survival curves over their whole length.

    Parameters
    ----------
    survival : array, (n,)
        Each patient's predicted survival at the patient's own time of event or censoring.

    Raises
    ------
    ValueError
        No event; survival that is NaN or no probability; fewer than two bins.

    References
    ----------
    Haider et al. 2020, J Mach Learn Res 21:85 (D-calibration).
    """
    need_events(follow_up)
    if bins < 2:
        raise ValueError("D-calibration needs at least two bins")
    s = checked_probability(survival, follow_up, "predicted survival")
    own = np.minimum((s * bins).astype(np.intp), bins - 1)
    seen = follow_up.event
    counts = np.bincount(own[seen], minlength=bins).astype(np.float64)
    lost, bin_of = s[~seen], own[~seen]
    low = np.arange(bins) / bins
    # Given survival beyond s, the final value is even between 0 and s: bins below get their width.
    positive = np.where(lost > 0, lost, 1.0)
    shares = np.where(np.arange(bins) < bin_of[:, None], 1.0 / (bins * positive[:, None]), 0.0)
    last = np.where(lost > 0, 1.0 - low[bin_of] / positive, 1.0)
    shares[np.arange(len(lost)), bin_of] = last
    counts += shares.sum(axis=0)
    expected = len(follow_up) / bins
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return DCalibration(counts, statistic, float(stats.chi2.sf(statistic, bins - 1)))
