"""The settings of automation: schedule and alerts.

Secrets are no settings, so that none is ever shown: the tokens are in environment variables of
their own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reviewsum_assets.setting_types import Names

SLACK_TOKEN_VARIABLE = "SLACK_BOT_TOKEN"
SMTP_PASSWORD_VARIABLE = "SMTP_PASSWORD"


class AutomationSettings(BaseModel):
    """When runs start automatically, and the receivers of alerts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refresh_cron: str = Field(
        "",
        description="Times of the schedule that launches refresh, as five cron fields in UTC. "
        "Empty: the schedule is stopped, and runs daily at 5:00 once it is started in the UI.",
    )
    webserver_url: str = Field(
        "", description="Address of the Dagster UI, for links in alerts (https://...)."
    )
    slack_channel: str = Field(
        "",
        description=f"Slack channel told of failed runs; needs {SLACK_TOKEN_VARIABLE} in the "
        "environment.",
    )
    slack_api_url: str = Field(
        "https://slack.com/api/", description="Slack's API; GovSlack has another address."
    )
    alert_email_to: Names = Field(
        (),
        description="Who is e-mailed about failed runs (separated by commas); needs "
        f"{SMTP_PASSWORD_VARIABLE} in the environment.",
    )
    alert_email_from: str = Field("", description="Sender of these e-mails.")
    smtp_host: str = Field("", description="Server that takes them.")
    smtp_security: Literal["SSL", "STARTTLS"] = Field("SSL", description="How that is spoken to.")
    smtp_port: int = Field(0, ge=0, description="Its port; 0: 465 for SSL, 587 for STARTTLS.")
    smtp_user: str = Field("", description="Login there. Empty: alert_email_from.")

    @property
    def sends_alerts(self) -> bool:
        """Whether anybody is told of failed runs."""
        return bool(self.slack_channel or self.alert_email_to)

    @model_validator(mode="after")
    def _email_is_whole(self) -> AutomationSettings:
        if self.alert_email_to and not (self.alert_email_from and self.smtp_host):
            raise ValueError("alert_email_to needs alert_email_from and smtp_host")
        return self
