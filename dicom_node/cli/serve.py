"""``hepatocast serve`` and ``hepatocast worker``: the node, and one more worker."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.signals import stop_on_signals

ConfigOption = Annotated[
    list[Path] | None,
    typer.Option("--config", help="Settings over the packaged defaults; may be given several times."),
]


class Part(StrEnum):
    """Processes of a node that `serve` can run."""

    LISTENER = "listener"
    STEWARD = "steward"
    WORKER = "worker"
    PAGE = "page"


PartOption = Annotated[
    list[Part] | None, typer.Option("--only", help="Run only this part; several times. All by default.")
]
_MODULES = {Part.LISTENER: ("dicom_node.network.scp",), Part.PAGE: ("dicom_node.web.server",)}


def serve(config: ConfigOption = None, only: PartOption = None) -> None:
    """Run the node: listener, assembly and delivery, a worker, and the operator's page, each a process.

    A process that ends is started again. Stop the node with Ctrl-C or SIGTERM: associations that
    are open finish their current object, the job that runs is given back to the queue.

    With PostgreSQL and files that all machines reach (storage: in the configuration), parts run on as many
    machines as are wanted: any number of listeners behind a TCP balancer, any number of workers, and two
    stewards, of which one works and the other waits to take its place.

    Example: hepatocast serve --config site.yaml

    Example: hepatocast serve --config site.yaml --only listener --only steward
    """
    from dicom_node.clock import system_clock
    from dicom_node.logs import configure_logging
    from dicom_node.settings import load_settings
    from dicom_node.supervisor import Supervisor, module_role

    settings = load_settings(config or [])
    configure_logging("serve", settings.log)
    arguments = [part for path in config or [] for part in ("--config", str(path))]
    roles = [
        module_role(part, *_MODULES.get(part, ("dicom_node.processes", str(part))), *arguments)
        for part in only or [p for p in Part if p is not Part.PAGE or settings.web.enabled]
    ]
    listener = settings.listener
    typer.echo(
        f"{listener.ae_title} listens on {listener.host}:{listener.port}; data in {settings.data_dir}",
        err=True,
    )
    Supervisor(roles, system_clock).run(stop_on_signals())


def worker(config: ConfigOption = None) -> None:
    """Run one more worker for a running node: on its data folder, or on another machine.

    On another machine the configuration names the node's PostgreSQL database and the place of its files
    (storage:). One worker uses one GPU, or the cores that OMP_NUM_THREADS says.

    Example: hepatocast worker --config site.yaml
    """
    from dicom_node.logs import configure_logging
    from dicom_node.processes import run_worker
    from dicom_node.settings import load_settings

    settings = load_settings(config or [])
    configure_logging("worker", settings.log)
    run_worker(settings, stop_on_signals())
