"""``hepatocast serve`` and ``hepatocast worker``: the node, and one more worker."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.signals import stop_on_signals

ConfigOption = Annotated[
    list[Path] | None,
    typer.Option("--config", help="Settings over the packaged defaults; may be given several times."),
]


def serve(config: ConfigOption = None) -> None:
    """Run the node: listener, assembly and delivery, and a worker, each a process of its own.

    A process that ends is started again. Stop the node with Ctrl-C or SIGTERM: associations that
    are open finish their current object, the job that runs is given back to the queue.

    Example: hepatocast serve --config site.yaml
    """
    from dicom_node.clock import system_clock
    from dicom_node.settings import load_settings
    from dicom_node.supervisor import Supervisor, module_role

    settings = load_settings(config or [])
    logging.getLogger().setLevel(logging.INFO)
    arguments = [part for path in config or [] for part in ("--config", str(path))]
    roles = (
        module_role("listener", "dicom_node.network.scp", *arguments),
        module_role("steward", "dicom_node.processes", "steward", *arguments),
        module_role("worker", "dicom_node.processes", "worker", *arguments),
    )
    listener = settings.listener
    typer.echo(
        f"{listener.ae_title} listens on {listener.host}:{listener.port}; data in {settings.data_dir}",
        err=True,
    )
    Supervisor(roles, system_clock).run(stop_on_signals())


def worker(config: ConfigOption = None) -> None:
    """Run one more worker on the data folder of a running node."""
    from dicom_node.processes import run_worker
    from dicom_node.settings import load_settings

    settings = load_settings(config or [])
    logging.getLogger().setLevel(logging.INFO)
    run_worker(settings, stop_on_signals())
