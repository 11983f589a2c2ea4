"""alerts.yaml, read: who is told of what. Secrets are named there and come from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from batch_pipeline.alerts.spec import (
    LOG,
    VARIABLE,
    AlertsSpec,
    AnyChannel,
    EmailChannel,
    HttpChannel,
    LogChannel,
    SlackChannel,
    WebhookChannel,
)
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.workload.yaml_document import Document, read_documents

_HERE = ("localhost", "127.0.0.1", "::1")


class MissingVariableError(ConfigurationError):
    """A variable that alerts.yaml names is not in the environment."""


def _per_recipient(channel: AnyChannel) -> list[AnyChannel]:
    if not isinstance(channel, EmailChannel):
        return [channel]
    return [
        channel.model_copy(
            update={"name": f"{channel.name}#{n}" if n > 1 else channel.name, "to": [to]}
        )
        for n, to in enumerate(channel.to, 1)
    ]


@dataclass(frozen=True)
class AlertsConfig:
    """The channels, with what their secrets are looked up in. The log is always one of them.

    `problem` is why the file could not be read; the log is then the only channel.
    """

    spec: AlertsSpec
    document: Document | None
    environment: Mapping[str, str]
    problem: ConfigurationError | None = None

    @property
    def channels(self) -> list[AnyChannel]:
        """One mail channel per recipient: what one server refuses for one of them is tried again for that one."""
        declared = [one for channel in self.spec.channels for one in _per_recipient(channel)]
        if any(channel.type == LOG for channel in declared):
            return list(declared)
        return [LogChannel(name=LOG, type="log"), *declared]

    def filled(self, text: str, channel: str, key: str) -> str:
        """`text` with its ${VARIABLE}s replaced. Raises MissingVariableError."""
        return VARIABLE.sub(lambda match: self.variable(match[1], channel, key), text)

    def variable(self, name: str, channel: str, key: str) -> str:
        """The variable's value, which is never empty. Raises MissingVariableError."""
        value = self.environment.get(name, "").strip()
        if not value:
            raise MissingVariableError(
                f"{self._place(channel, key)}: channel {channel!r} needs the environment variable {name}, which "
                "is not set; set it where the sensor and `batch-pipeline` run."
            )
        return value

    def address(self, channel: HttpChannel) -> str:
        """Where the channel posts to. Raises ConfigurationError, whose sentence does not show it."""
        key = "url" if channel.url is not None else "url_env"
        if channel.url is not None:
            address = self.filled(channel.url, channel.name, key)
        else:
            address = self.variable(channel.url_env or "", channel.name, key)
        try:
            parts = urlsplit(address)
            secure = parts.scheme == "https" or (
                parts.scheme == "http" and (channel.insecure or parts.hostname in _HERE)
            )
            whole = bool(parts.hostname) and parts.port != 0
        except ValueError:
            whole = False
        if not whole or parts.scheme not in ("http", "https"):
            raise ConfigurationError(
                f"{self._place(channel.name, key)}: the address of channel {channel.name!r} is not an "
                "https:// address."
            )
        if not secure:
            raise ConfigurationError(
                f"{self._place(channel.name, key)}: the address of channel {channel.name!r} is http://, where "
                "anybody on the way may read along; use https://, or set `insecure: true`."
            )
        return address

    def beside(self, path: str) -> Path:
        """A path as the file means it."""
        return self.document.path.parent / path if self.document else Path(path)

    def _place(self, channel: str, key: str) -> str:
        if self.document is None:
            return "alerts.yaml"
        for n, declared in enumerate(self.spec.channels):
            if declared.name == channel.partition("#")[0]:
                return self.document.at(["channels", n, key])
        return self.document.at(())


def log_only(environment: Mapping[str, str]) -> AlertsConfig:
    """What holds without a file."""
    return AlertsConfig(AlertsSpec(), None, environment)


def usable_config(path: Path | None, environment: Mapping[str, str]) -> AlertsConfig:
    """As `read_config`, but a file that is wrong leaves the log and its `problem`: alerts are kept all the same."""
    try:
        return read_config(path, environment)
    except ConfigurationError as error:
        return AlertsConfig(AlertsSpec(), None, environment, error)


def read_config(path: Path | None, environment: Mapping[str, str]) -> AlertsConfig:
    """The configuration in `path`; None stands for the log alone.

    Variables are looked up when a channel is used: one that is missing silences no other channel.

    Raises ConfigurationError with file, line and key.
    """
    if path is None:
        return log_only(environment)
    if not path.is_file():
        raise ConfigurationError(
            f"BATCH_PIPELINE_ALERTS names {path}, which is not a file; write one as docs/alerts.md says."
        )
    documents = read_documents(path)
    if not documents:
        return log_only(environment)
    if len(documents) > 1:
        raise ConfigurationError(f"{documents[1].at(())}: only one document may stand here.")
    try:
        spec = AlertsSpec.model_validate(documents[0].value)
    except ValidationError as error:
        raise ConfigurationError(_sentence(documents[0], error)) from None
    return AlertsConfig(spec, documents[0], environment)


_TYPES: dict[str, type[BaseModel]] = {
    "log": LogChannel,
    "webhook": WebhookChannel,
    "slack": SlackChannel,
    "email": EmailChannel,
}


def _sentence(document: Document, error: ValidationError) -> str:
    first = min(
        error.errors(include_url=False, include_input=False),
        key=lambda each: each["type"] != "extra_forbidden",
    )
    # Pydantic names the kind of channel as if it were a key.
    place = [p for n, p in enumerate(first["loc"]) if not (n == 2 and p in _TYPES)]
    key = ".".join(str(part) for part in place) or "the file"
    more = error.error_count() - 1
    return (
        f"{document.at(place)}: {key}: {_problem(first, place)}"
        + (f" (and {more} more)" if more else "")
        + "."
    )


def _problem(error: Any, place: list[int | str]) -> str:
    kind = error["type"]
    if not place:
        return (
            "must be a mapping with `channels:`, a list" if kind == "model_type" else _worded(error)
        )
    if kind == "extra_forbidden":
        stated = next((p for n, p in enumerate(error["loc"]) if n == 2 and p in _TYPES), None)
        model: type[BaseModel] = _TYPES[str(stated)] if stated else AlertsSpec
        known = [field.alias or name for name, field in model.model_fields.items()]
        return f"there is no such key; known are {', '.join(known)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"`type` must be one of {', '.join(_TYPES)}"
    if kind == "string_pattern_mismatch":
        return {
            "name": "must be letters, digits, - and _, at most 64",
            "link": "must begin with http:// or https://",
            "url_env": "must be the name of an environment variable, not its value",
            "password_env": "must be the name of an environment variable, not its value",
        }.get(str(place[-1]), "must be a single mail address, such as oncall@example.com")
    return _WORDS.get(kind) or _worded(error)


_WORDS = {"missing": "is missing", "list_type": "must be a list; begin each entry with a dash"}


def _worded(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return message.replace("Input should", "must").replace("List should", "must").rstrip(".")
