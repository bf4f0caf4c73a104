"""``hepatocast web``: users of the operator's page."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dicom_node.settings import NodeSettings
    from dicom_node.web.users import Users

app = typer.Typer(
    no_args_is_help=True,
    help="""Users of the operator's page, which `hepatocast serve` shows at http://127.0.0.1:8117.

A viewer looks on. A clinician also releases or rejects outlines in review and records decisions on
forecasts. An operator does all that, and retries and cancels.
""",
)

ConfigOption = Annotated[
    list[Path] | None, typer.Option("--config", help="The configuration of the node; several times.")
]
NameArgument = Annotated[str, typer.Argument(help="Letters, digits, dots, dashes, underscores.")]


class RoleName(StrEnum):
    """Roles as the command line names them."""

    VIEWER = "viewer"
    CLINICIAN = "clinician"
    OPERATOR = "operator"


def _users(config: list[Path] | None) -> tuple[NodeSettings, Users]:
    from dicom_node.settings import load_settings
    from dicom_node.web.users import Users

    settings = load_settings(config or [])
    return settings, Users(settings.web.users(settings.data_dir))


def _told(settings: NodeSettings, text: str) -> None:
    """Tell the audit trail who changed the users."""
    import getpass

    from dicom_node.audit.events import AuditEvent, AuditEvents, EventKind
    from dicom_node.clock import system_clock
    from dicom_node.database import node_database

    database = node_database(settings)
    event = AuditEvent(EventKind.USERS_CHANGED, getpass.getuser(), detail={"change": text})
    AuditEvents(database, system_clock).record(event)
    database.dispose()


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


@app.command("add-user")
def add_user(
    name: NameArgument,
    role: Annotated[RoleName, typer.Option(help="What the user may do.")] = RoleName.VIEWER,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Add a user, or give one another role and password; the running page knows it at once.

    The password is asked for, or read from standard input; it is stored as an scrypt hash. Sessions of a
    user whose password changed end.

    Example: hepatocast web add-user anna --role operator --config site.yaml
    """
    from dicom_node.web.users import Role

    settings, users = _users(config)
    added = users.put(name, Role(role), _password(password_stdin))
    change = f"{'added' if added else 'changed'} {name}, role {role}"
    _told(settings, change)
    typer.echo(change)


@app.command("remove-user")
def remove_user(name: NameArgument, config: ConfigOption = None) -> None:
    """Remove a user; sessions of theirs end."""
    settings, users = _users(config)
    users.remove(name)
    _told(settings, f"removed {name}")
    typer.echo(f"removed {name}")


@app.command("list-users")
def list_users(config: ConfigOption = None) -> None:
    """List names and roles."""
    _, users = _users(config)
    for user in users.all().values():
        typer.echo(f"{user.name}\t{user.role}")
