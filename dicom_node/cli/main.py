"""The command ``hepatocast``: its commands, its exit codes, its errors in one line.

Command modules import only light things at their top, so that ``--help`` is instant.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import typer

from dicom_node.cli import (
    assess,
    audit,
    batch,
    calibrate_simulation,
    check,
    cohort,
    comparison,
    decisions,
    demo,
    evaluate,
    evaluate_arms,
    jobs,
    models,
    reader_study,
    rules,
    run,
    serve,
    simulate,
    terminal,
    train,
    web,
)
from dicom_node.errors import ConfigurationError, NodeError
from inference.errors import InferenceError, RejectedInput
from reporting.errors import ReportingError

DONE, FAILED, WRONG_USAGE, REFUSED = 0, 1, 2, 3

EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (ConfigurationError, WRONG_USAGE),
    (RejectedInput, REFUSED),
    (InferenceError, FAILED),
    (ReportingError, FAILED),
    (NodeError, FAILED),
)
"""First match wins."""

app = typer.Typer(
    name="hepatocast",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Forecasts unresectable hepatocellular carcinoma under each treatment regimen.

A PACS sends the pre-treatment CT or MRI; virtual follow-up series, segmentations, structured
reports and survival charts come back into the same study.

Begin with `hepatocast demo`. Then write a configuration and see that it holds: `hepatocast check`.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 input refused.
""",
)
app.command()(demo.demo)
app.command()(serve.serve)
app.command()(serve.worker)
app.command()(run.run)
app.command()(check.check)
app.command()(simulate.simulate)
app.command()(calibrate_simulation.calibrate_simulation)
app.command()(evaluate.evaluate)
app.command()(evaluate_arms.arms)
app.add_typer(rules.app, name="rules")
app.add_typer(jobs.app, name="jobs")
app.add_typer(batch.app, name="batch")
app.add_typer(models.app, name="models")
app.add_typer(web.app, name="web")
app.add_typer(audit.app, name="audit")
app.add_typer(decisions.app, name="decisions")
app.add_typer(assess.app, name="assess")
app.add_typer(cohort.app, name="cohort")
app.add_typer(comparison.app, name="comparison")
app.add_typer(train.app, name="train")
app.add_typer(reader_study.app, name="reader-study")


def _exit_code(error: Exception) -> int:
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), FAILED)


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    An error is one line on standard error, and a line for each of its notes, which say what to do.
    """
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger(terminal.__name__).setLevel(logging.INFO)
    try:
        app(args=None if arguments is None else list(arguments))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED if ended.code else DONE
    except (NodeError, InferenceError, ReportingError) as error:
        typer.echo(f"hepatocast: {' '.join(str(error).split())}", err=True)
        for note in getattr(error, "__notes__", ()):
            typer.echo(note, err=True)
        return _exit_code(error)
    return DONE


def main() -> None:
    """Entry point of the command."""
    sys.exit(invoke())


if __name__ == "__main__":
    main()
