"""A mail over SMTP."""

import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

from batch_pipeline.alerts.message import Channel, Message, UndeliveredError
from batch_pipeline.alerts.spec import EmailChannel

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_LONGEST_SUBJECT = 200


class Email(Channel):
    """A mail to its recipients; the delivery_id is its Message-ID, so that a repetition is known by it."""

    def __init__(self, spec: EmailChannel, password: str | None, ca_file: Path | None) -> None:
        self._spec = spec
        self._password = password
        self._ca_file = ca_file

    def send(self, message: Message, *, again: bool) -> str:  # noqa: ARG002
        spec = self._spec
        mail = compose(message, sender=spec.sender, to=spec.to)
        try:
            server = self._connected()
            try:
                if spec.user is not None and self._password is not None:
                    server.login(spec.user, self._password)
                refused = server.send_message(mail, spec.sender, spec.to)
            finally:
                # The mail was taken or not; how the goodbye goes says nothing of that.
                with suppress(smtplib.SMTPException, OSError):
                    server.quit()
                server.close()
        except smtplib.SMTPResponseException as error:
            # The server's own words may repeat what it was told.
            raise UndeliveredError(
                f"{spec.host} answered {error.smtp_code} ({type(error).__name__}).",
                whole_channel=not isinstance(error, smtplib.SMTPDataError),
            ) from None
        except smtplib.SMTPRecipientsRefused:
            raise UndeliveredError(f"{spec.host} takes no mail for any recipient.") from None
        except TimeoutError:
            raise UndeliveredError(
                f"{spec.host} did not answer within {spec.timeout_seconds:g} s."
            ) from None
        except (smtplib.SMTPException, ssl.SSLError, OSError) as error:
            raise UndeliveredError(
                f"{spec.host} could not be reached ({type(error).__name__})."
            ) from None
        said = f"{spec.host} took it for {len(spec.to) - len(refused)} of {len(spec.to)}"
        return f"{said} recipients"

    def _connected(self) -> smtplib.SMTP:
        spec = self._spec
        port = spec.port or _PORTS[spec.security]
        if spec.security == "none":
            return smtplib.SMTP(spec.host, port, timeout=spec.timeout_seconds)
        context = ssl.create_default_context()
        if self._ca_file is not None:
            try:
                context.load_verify_locations(self._ca_file)
            except OSError:
                raise UndeliveredError(
                    f"the certificates in {self._ca_file} cannot be read; see `ca_file`."
                ) from None
        if spec.security == "tls":
            return smtplib.SMTP_SSL(spec.host, port, timeout=spec.timeout_seconds, context=context)
        server = smtplib.SMTP(spec.host, port, timeout=spec.timeout_seconds)
        try:
            # Raises where the server does not offer it: a password never goes in the clear.
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
        return server


def compose(message: Message, *, sender: str, to: list[str]) -> EmailMessage:
    """The mail. Its texts are on one line each, as Message has them, so no header can be slipped in."""
    domain = sender.rpartition("@")[2]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Subject"] = message.headline[:_LONGEST_SUBJECT]
    mail["Date"] = format_datetime(message.resolved_at or message.opened_at)
    mail["Message-ID"] = f"<{message.delivery_id}@{domain}>"
    if message.answers is not None:
        mail["In-Reply-To"] = mail["References"] = f"<{message.answers}@{domain}>"
    # RFC 3834: no holiday note in answer.
    mail["Auto-Submitted"] = "auto-generated"
    lines = [
        message.sentence,
        "",
        f"Workload: {message.workload}",
        *([f"Load: {message.load}"] if message.load else []),
        f"Severity: {message.severity} ({message.kind})",
        f"Opened: {message.opened_at:%Y-%m-%d %H:%M} UTC",
        *([f"Resolved: {message.resolved_at:%Y-%m-%d %H:%M} UTC"] if message.resolved_at else []),
        *([f"Dagster: {message.link}"] if message.link else []),
    ]
    mail.set_content("\n".join(lines) + "\n")
    return mail
