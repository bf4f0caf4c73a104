"""``hepatocast train phase``: train the contrast phase classifier and write its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.terminal import progress_bar


def phase(
    out: Annotated[Path, typer.Option(help="Folder of the bundle; made if absent.")],
    anatomies: Annotated[int, typer.Option(min=2, help="Simulated abdomens to learn from.")] = 60,
    organ_tables: Annotated[
        int, typer.Option(min=5, help="Sampled organ tables of each phase to learn from.")
    ] = 2500,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 20240301,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train the classifier that tells contrast phases where descriptions are missing or wrong.

    Learns from simulated organ tables and abdomens: native, arterial, portal venous and delayed CT; T1
    before and after contrast and T2 in MR. Then it is tested on other simulated abdomens, with the usual
    and with a shifted scanner. Takes about four minutes on one core. With the defaults it makes the bundle
    that is shipped, byte for byte on one kind of processor.

    Example: hepatocast train phase --out my_phase/

    Then hepatocast models install my_phase/ takes it into the node, and says how to put it in force.
    """
    from inference.training.phase_fit import PhaseTrainingSettings, train_phase

    settings = PhaseTrainingSettings(seed=seed, training_anatomies=anatomies, organ_tables=organ_tables)
    with progress_bar("train phase", quiet=quiet) as report:
        metadata = train_phase(out, settings, report)
    for name, figures in metadata["metrics"]["test"].items():
        told = figures["accuracy_where_told"]
        of_these = "" if told is None else f", of these right {100 * told:.1f} %"
        typer.echo(
            f"{name}: {100 * figures['accuracy']:.1f} % of {figures['n']} right; "
            f"told {100 * figures['told']:.1f} %{of_these}"
        )
    typer.echo(f"the bundle is in {out}")
