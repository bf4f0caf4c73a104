"""Predictions of any model in one folder, so that all are measured alike.

=========================  ===============================================================================
``outcomes.csv``           one row a patient: ``patient`` (a pseudonym), ``centre``, ``split``, ``regimen``,
                           ``os_months``, ``os_event``, ``pfs_months``, ``pfs_event``, ``response`` (1 or 0),
                           and any baseline columns, which form the subgroups. Empty is not known.
``models.json``            a list of ``{name, title, arm, end_points}``; `ModelEntry` tells what may be added.
``<model>.os.csv``         ``patient``, ``risk`` (higher for an earlier event), ``s@12``, ``s@24``, ``s@36``
                           (survival probability at a month) and any other month; limits are
                           ``s@12_lower``, ``s@12_upper``. The same for ``pfs``, at any two months or more.
``<model>.response.csv``   ``patient``, ``probability`` of an objective response.
``study.json``             optional: ``{title, items}``; items are what people write for the reporting
                           checklist, by its number: ``{"17": "Approved by ..."}``.
=========================  ===============================================================================

A split is ``train``, ``validation``, ``test``, ``external`` or ``external-<name>``. Thresholds and risk
groups come from validation patients; test and external patients are only measured. Every patient that is
not of the training part must be predicted by every model; training patients may be.

A model that looks at follow-up images predicts from the month at which they were made: its entry says
``landmark_months``, its months still count from the start of treatment, and patients who had the event
or left before the landmark need no row.
"""
