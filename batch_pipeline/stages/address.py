"""Which API a load was sent to. Looking for its batches at another one would find nothing, and pay again."""

from urllib.parse import urlsplit

from batch_pipeline.errors import ConfigurationError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def require_same_api(what: str, sent_to: str | None, address: str) -> None:
    """Raises ConfigurationError where `address` is not the API that `what` was sent to."""
    if sent_to is not None and _place(sent_to) != _place(address):
        raise ConfigurationError(
            f"{what} was sent to {sent_to}, but ANTHROPIC_BASE_URL now names {address}; set it back to go on "
            "with this load."
        )


def _place(address: str) -> tuple[str, str, int | None]:
    parts = urlsplit(address)
    # A simulator or a proxy on this machine may come back at another port.
    local = parts.hostname in _LOOPBACK
    return (
        parts.scheme,
        "loopback" if local else parts.hostname or "",
        None if local else parts.port,
    )
