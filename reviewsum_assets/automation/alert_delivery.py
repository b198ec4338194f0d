"""Brings an alert to Slack and e-mail, as far as the settings name somebody there."""

from __future__ import annotations

import html
import logging
import os
import smtplib
import ssl
from email.message import EmailMessage

from reviewsum_assets.automation_settings import (
    SLACK_TOKEN_VARIABLE,
    SMTP_PASSWORD_VARIABLE,
    AutomationSettings,
)
from reviewsum_assets.errors import SettingsError

_SMTP_PORTS = {"SSL": 465, "STARTTLS": 587}
_SMTP_SECONDS = 60.0


def deliver(text: str, settings: AutomationSettings, log: logging.Logger) -> None:
    """Send an alert, whose first line says what it is about, to everybody whom the settings name.

    What goes wrong with that is logged and raises nothing: it must not hide what the alert is of.
    """
    for send, receivers in (
        (_send_to_slack, settings.slack_channel),
        (_send_by_email, ", ".join(settings.alert_email_to)),
    ):
        if receivers:
            try:
                send(text, settings)
            except Exception as error:  # whatever the libraries raise: the other one still gets it
                why = f"{type(error).__name__}: {error}"
                log.error(f"the alert could not be sent to {receivers}: {why}")  # noqa: TRY400
            else:
                log.info(f"the alert was sent to {receivers}")


def _send_to_slack(text: str, settings: AutomationSettings) -> None:
    try:
        from dagster_slack import SlackResource
    except ImportError as error:
        raise SettingsError("slack_channel needs the extra `slack`") from error
    client = SlackResource(token=_secret(SLACK_TOKEN_VARIABLE)).get_client()
    client.base_url = f"{settings.slack_api_url.rstrip('/')}/"
    # Unescaped, the name of a dump could call everybody, or hide where a link leads:
    # https://docs.slack.dev/messaging/formatting-message-text#escaping
    client.chat_postMessage(channel=settings.slack_channel, text=html.escape(text, quote=False))


def _send_by_email(text: str, settings: AutomationSettings) -> None:
    mail = EmailMessage()
    mail["Subject"] = f"reviewsum: {text.splitlines()[0]}"
    mail["From"] = settings.alert_email_from
    mail["To"] = ", ".join(settings.alert_email_to)
    mail.set_content(text)
    with _mail_server(settings) as server:
        server.login(
            settings.smtp_user or settings.alert_email_from, _secret(SMTP_PASSWORD_VARIABLE)
        )
        server.send_message(mail)


def _mail_server(settings: AutomationSettings) -> smtplib.SMTP:
    """A connection that is encrypted already."""
    security = settings.smtp_security
    port = settings.smtp_port or _SMTP_PORTS[security]
    context = ssl.create_default_context()
    if security == "SSL":
        return smtplib.SMTP_SSL(settings.smtp_host, port, timeout=_SMTP_SECONDS, context=context)
    server = smtplib.SMTP(settings.smtp_host, port, timeout=_SMTP_SECONDS)
    server.starttls(context=context)
    return server


def _secret(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise SettingsError(f"the environment variable {variable} is not set")
    return value
