"""Keeps the API key on the host that it was given for.

The API itself says where a batch's results lie, and may redirect a call; the SDK goes there with the key. A
request to another scheme, host or port than the configured one is stopped before a connection is opened.
"""

from typing import TYPE_CHECKING

from batch_pipeline.errors import PipelineError

if TYPE_CHECKING:
    import httpx2


class ForeignHostError(PipelineError):
    """The API pointed to another host; nothing was sent there."""


class SameOrigin:
    """A request hook that lets through what goes to `base_url`'s scheme, host and port, and nothing else.

    `base_url` is None until the client that the hook belongs to has settled it; until then all is refused.
    """

    def __init__(self, base_url: "httpx2.URL | None" = None) -> None:
        self.base_url = base_url

    def __call__(self, request: "httpx2.Request") -> None:
        """Raises ForeignHostError, which the SDK wraps in an APIConnectionError."""
        home = self.base_url
        if home is None or request.url.origin != home.origin:
            # Origins only: a path or a query may hold a secret of its own.
            raise ForeignHostError(
                f"The API pointed to {_origin(request.url)}, but the key is for {_origin(home)} "
                "(ANTHROPIC_BASE_URL, or the SDK's default), so nothing was sent there; set ANTHROPIC_BASE_URL "
                "to the address that the API itself names, or have the gateway in between rewrite the "
                "results_url and redirects that it passes on."
            )


def _origin(url: "httpx2.URL | None") -> str:
    return (
        "no host yet" if url is None else f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"
    )
