"""Statistics of time-to-event predictions, one file per idea.

| question | file |
|---|---|
| what is known of the patients | `follow_up` |
| what makes up for censored patients | `censoring` |
| who is ranked before whom | `concordance`, `dynamic_auc`, `delong` |
| how far is a probability from the outcome | `brier` |
| does .3 mean 30 of 100 | `calibration`, `d_calibration` |
| is a decision better with it | `decision` |
| how much does it explain | `explained` |
| what happened in groups | `kaplan_meier` |
| how sure is a figure | `resampling` (and `inference.evaluation.bootstrap`) |
| how many patients are needed | `sample_size` |

Functions named ``*_of`` return the measure as a function of bootstrap weights (draws, patients).

Bad input is a `ValueError` with one sentence, raised before anything is computed: no events where events
are needed, all patients censored, a NaN among the predictions, a time at or beyond the end of follow-up,
a censoring weight that is infinite. Nothing is dropped or extrapolated in silence. A single bootstrap
draw that has nothing to compute from is NaN, and the interval is of the other draws. `NotAssessed` is of
results of one patient and is not used here; who writes a report prints the sentence of the error.
"""
