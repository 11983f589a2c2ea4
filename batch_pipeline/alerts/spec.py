"""What alerts.yaml may say: the channels and their options."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

LOG = "log"
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SECRET_HEADER = re.compile(r"auth|token|key|secret|cookie|password", re.IGNORECASE)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Address = Annotated[str, Field(pattern=r"^[^\s@<>,;:\"]+@[^\s@<>,;:\"]+$", max_length=254)]


class _Declared(BaseModel):
    # The values are kept out of errors: one of them may be a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Channel(_Declared):
    name: Name = Field(description="What the channel is called, here and in the ledger.")
    severity: Literal["page", "log", "all"] = Field(
        "page",
        description="Which alerts it is told of: those that page, those that do not, or all.",
    )
    workloads: list[str] | None = Field(
        None, description="Only alerts of these workloads; by default of all."
    )
    timeout_seconds: float = Field(
        10, gt=0, le=60, description="How long one attempt may wait for an answer."
    )

    def wants(self, *, severity: str, workload: str) -> bool:
        return self.severity in (severity, "all") and (
            self.workloads is None or workload in self.workloads
        )


class LogChannel(_Channel):
    """A line of JSON per message, in a file below the state folder."""

    type: Literal["log"]
    severity: Literal["page", "log", "all"] = "all"


class HttpChannel(_Channel):
    url: str | None = Field(None, description="Where to. It may hold ${VARIABLE}s.")
    url_env: Variable | None = Field(None, description="The variable that holds the address.")
    insecure: bool = Field(
        False, description="Allow http:// to another machine, where anybody may read along."
    )

    @model_validator(mode="after")
    def _one_address(self) -> "HttpChannel":
        if (self.url is None) == (self.url_env is None):
            raise ValueError("give either `url` or `url_env`")
        return self


class WebhookChannel(HttpChannel):
    """A POST of JSON."""

    type: Literal["webhook"]
    headers: dict[str, str] = Field(
        default_factory=dict, description="Further headers; values may hold ${VARIABLE}s."
    )

    @field_validator("headers")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"{name!r} is not a header's name")
            if _SECRET_HEADER.search(name) and not VARIABLE.search(text):
                raise ValueError(
                    f"{name} is a secret: write ${{VARIABLE}} and set that in the environment"
                )
        return value


class SlackChannel(HttpChannel):
    """A POST that Slack's incoming webhooks, and those compatible with them, understand."""

    type: Literal["slack"]

    @field_validator("url")
    @classmethod
    def _not_written_down(cls, value: str | None) -> str | None:
        if value is not None and not VARIABLE.search(value):
            raise ValueError("a Slack address is a secret: use `url_env`, or ${VARIABLE} in it")
        return value


class EmailChannel(_Channel):
    """A mail over SMTP."""

    type: Literal["email"]
    host: str = Field(description="The SMTP server.", min_length=1)
    port: int | None = Field(None, ge=1, le=65535, description="By default 587, 465 or 25.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is protected."
    )
    ca_file: str | None = Field(
        None, description="Certificates to trust besides the system's, relative to this file."
    )
    user: str | None = Field(None, description="Who logs in.")
    password_env: Variable | None = Field(None, description="The variable that holds the password.")
    sender: Address = Field(alias="from", description="The sender's address.")
    to: list[Address] = Field(min_length=1, description="The recipients' addresses.")

    @model_validator(mode="after")
    def _kept_secret(self) -> "EmailChannel":
        if (self.user is None) != (self.password_env is None):
            raise ValueError("`user` and `password_env` go together")
        if self.user is not None and self.security == "none":
            raise ValueError("a password is not sent without `security: starttls` or `tls`")
        return self


AnyChannel = Annotated[
    LogChannel | WebhookChannel | SlackChannel | EmailChannel, Field(discriminator="type")
]


class AlertsSpec(_Declared):
    """The whole file."""

    link: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Where people open Dagster, such as https://dagster.example.com; messages then link there.",
    )
    channels: list[AnyChannel] = Field(default_factory=list, description="Who is told.")

    @model_validator(mode="after")
    def _names_once(self) -> "AlertsSpec":
        names = [channel.name for channel in self.channels]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two channels are called {min(twice)!r}; rename one")
        if any(each.name == LOG and each.type != LOG for each in self.channels):
            raise ValueError(f"only a channel of type log may be called {LOG!r}")
        return self
