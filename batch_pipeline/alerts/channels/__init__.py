"""Where messages go: a module per kind of channel."""

from pathlib import Path

from batch_pipeline.alerts.config import AlertsConfig
from batch_pipeline.alerts.message import Channel
from batch_pipeline.alerts.spec import EmailChannel, LogChannel, SlackChannel, WebhookChannel


def open_channel(config: AlertsConfig, name: str, state: Path) -> Channel | None:
    """The channel of that name, or None where alerts.yaml has none.

    Raises ConfigurationError: a variable is not set, or an address is none.
    """
    for spec in config.channels:
        if spec.name != name:
            continue
        match spec:
            case LogChannel():
                from batch_pipeline.alerts.channels.log import Log

                return Log(state / "alerts.log")
            case WebhookChannel():
                from batch_pipeline.alerts.channels.http import Webhook

                headers = {
                    key: config.filled(text, name, "headers") for key, text in spec.headers.items()
                }
                return Webhook(config.address(spec), headers, spec.timeout_seconds)
            case SlackChannel():
                from batch_pipeline.alerts.channels.http import Slack

                return Slack(config.address(spec), spec.timeout_seconds)
            case EmailChannel():
                from batch_pipeline.alerts.channels.email import Email

                password = spec.password_env and config.variable(
                    spec.password_env, name, "password_env"
                )
                ca_file = config.beside(spec.ca_file) if spec.ca_file else None
                return Email(spec, password, ca_file)
    return None
