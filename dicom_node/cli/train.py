"""``hepatocast train``: fit a model and write its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.train_cohort_systems import COMMANDS as COHORT_SYSTEMS
from dicom_node.cli.train_features import image_vectors, nomogram, radiomics_cox, slice_features
from dicom_node.cli.train_generator import generator
from dicom_node.cli.train_phase import phase
from dicom_node.cli.train_seed_systems import COMMANDS as SEED_SYSTEMS
from dicom_node.cli.train_segmenter import segmenter
from dicom_node.cli.train_survival import survival

app = typer.Typer(no_args_is_help=True, help="Fit a model and write its bundle.")


@app.callback()
def train() -> None:
    """Fit a model and write its bundle."""


app.command()(segmenter)
app.command()(phase)
app.command()(generator)
app.command()(image_vectors)
app.command()(slice_features)
app.command()(radiomics_cox)
app.command()(nomogram)
app.command()(survival)
for _command in (*SEED_SYSTEMS, *COHORT_SYSTEMS):
    app.command()(_command)


@app.command("cox-hcc-tace-seg")
def cox_hcc_tace_seg(
    data: Annotated[Path, typer.Option(help="Clinical table of HCC-TACE-Seg, version 2, as CSV.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; made if absent.")],
) -> None:
    """Fit the Cox model of survival after TACE on the 105 patients of HCC-TACE-Seg.

    Reads baseline columns only. The same table gives the same bytes as the bundle that is shipped. The
    data set: doi 10.7937/TCIA.5FNA-0924, CC BY 4.0.

    Example: hepatocast train cox-hcc-tace-seg --data clinical_Data.csv --out my_bundle/
    """
    from inference.training.fit_cox import fit_bundle

    if not data.is_file():
        raise typer.BadParameter("there is no such file", param_hint="--data")
    metadata = fit_bundle(data, out)
    figures = metadata["cross_validation"]["figures"]
    for name, title in (("os", "overall survival"), ("ttp", "time to progression")):
        concordance = figures[name]["c"]
        typer.echo(f"{title}: cross-validated C {concordance['mean']:.3f}, sd {concordance['sd']:.3f}")
    typer.echo(f"the bundle is in {out}")
