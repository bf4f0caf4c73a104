"""Checks of what operation needs: the page's address and users, and the ways of alerts."""

from __future__ import annotations

from collections.abc import Iterator

from dicom_node.errors import ConfigurationError, TransientError
from dicom_node.observation.channels import channels, send_test
from dicom_node.selftest import Check
from dicom_node.settings import NodeSettings
from dicom_node.web.server import check_binding
from dicom_node.web.users import Users

PAGE, ALERTS = "operator's page", "alerts"


def check_page(settings: NodeSettings) -> Iterator[Check]:
    """Check that the page may be bound to its address, and that somebody can log in."""
    web = settings.web
    if not web.enabled:
        return
    try:
        check_binding(settings)
        users = Users(web.users(settings.data_dir)).all()
    except ConfigurationError as error:
        yield Check(PAGE, "address and users", False, str(error))
        return
    scheme = "https" if web.uses_tls else "http"
    who = f"{len(users)} users" if users else "no user yet: `hepatocast web add-user`"
    yield Check(PAGE, "address and users", True, f"{scheme}://{web.host}:{web.port}, {who}")


def check_alerts(settings: NodeSettings) -> Iterator[Check]:
    """Send a test message by each configured channel."""
    ways = channels(settings.alerts)
    if not ways:
        yield Check(ALERTS, "channels", False, "none is configured; set alerts.mail or alerts.webhook")
    for channel in ways:
        try:
            send_test(channel, settings.audit.source_id)
        except TransientError as error:
            yield Check(ALERTS, channel.name, False, str(error))
        else:
            yield Check(ALERTS, channel.name, True, "a test message was taken; see that it arrives")
