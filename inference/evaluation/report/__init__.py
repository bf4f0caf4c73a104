"""Evaluation of predictions as TRIPOD+AI asks: figures with intervals, pictures and a filled checklist.

`evaluation.evaluate_predictions` computes, `writing.write_evaluation` writes ``metrics.json``,
``report.html`` and ``report.pdf``. A figure that cannot be computed stays in its place with the reason.
"""
