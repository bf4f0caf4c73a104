"""``hepatocast demo``: the whole loop on this machine, with pictures to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.terminal import progress_bar


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what came back and index.html.")] = Path("demo-out"),
    input_dir: Annotated[
        Path | None,
        typer.Option("--input", help="Folder of a study to send instead of the simulated patient."),
    ] = None,
    clinical: Annotated[Path | None, typer.Option(help="JSON or CSV of clinical values for --input.")] = None,
    no_network: Annotated[
        bool, typer.Option("--no-network", help="Forecast without PACS and node; a minute less.")
    ] = False,
) -> None:
    """Show the whole loop: a patient, a PACS, the node, and everything that comes back.

    Needs nothing else on the machine. A simulated patient (or the study in --input) is sent through a
    PACS on loopback (Orthanc where it is installed) to a node that is started for it; what comes back
    is left in OUT, and OUT/index.html shows every picture and number. Survival and the comparison of
    regimens come from models of simulated patients for the simulated patient, and from the models that a
    node has by default for a study in --input.
    """
    import tempfile

    from dicom_node.clock import system_clock
    from dicom_node.demo.loop import (
        SIMULATED_MODELS,
        Demonstration,
        over_the_network,
        simulated_study,
        without_network,
    )
    from dicom_node.settings import load_settings

    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="hepatocast-patient-") as folder,
        progress_bar("demonstration", quiet=False) as say,
    ):
        study, models = input_dir, tuple[str, ...]()
        if study is None:
            say("simulating a patient", 0.0)
            (study, clinical), models = simulated_study(Path(folder)), SIMULATED_MODELS
        demonstration = Demonstration(out, study, clinical, models, say, system_clock)
        if no_network:
            page = without_network(demonstration, load_settings())
        else:
            page = over_the_network(demonstration)
        say("done", 1.0)
    typer.echo(f"open {page}")
