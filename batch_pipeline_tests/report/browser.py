"""A real Chromium, headless, that is let load nothing but the page it is given."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REQUIRED = "BATCH_PIPELINE_REQUIRE_BROWSER"
# Read here: no test sees the variables of ours that the machine sets.
_IS_REQUIRED = bool(os.environ.get("CI") or os.environ.get(REQUIRED))


@dataclass
class Look:
    """An opened page, with all that it said and asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)

    def show(self, scheme: str, media: str) -> None:
        """As a person sees it who likes it dark, or light, on a screen or on paper ("print")."""
        self.page.emulate_media(
            media="print" if media == "print" else "screen",
            color_scheme="dark" if scheme == "dark" else "light",
        )

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips where there is no browser; fails where one is required, as in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if _IS_REQUIRED:
            pytest.fail(f"Chromium is not installed, and CI or {REQUIRED} asks for it.")
        pytest.skip("Chromium is not installed: NOTHING was looked at in a browser.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield browser
        browser.close()


def looker(browser: Browser) -> Callable[..., Look]:
    """Opens a file at a width; closes what was open before."""

    def look(path: Path, width: int = 1280) -> Look:
        for context in browser.contexts:
            context.close()
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="light")
        seen = Look(page)

        def only_the_file(route: Route) -> None:
            seen.asked_for.append(route.request.url)
            if route.request.url.startswith("file:"):
                route.continue_()
            else:
                route.abort()

        page.route("**/*", only_the_file)
        page.on("console", lambda message: seen.said.append(message.text))
        page.on("pageerror", lambda error: seen.said.append(str(error)))
        page.goto(path.as_uri())
        return seen

    return look
