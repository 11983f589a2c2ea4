"""`simulate`: the API simulator by itself."""

from pathlib import Path

import click

from batch_pipeline.errors import ConfigurationError


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="0 for any."
)
@click.option(
    "--scenario",
    type=click.Path(path_type=Path),
    help="YAML of answers, error rates and faults; without it, every answer is made from its schema.",
)
@click.option(
    "--state",
    "folder",
    type=click.Path(path_type=Path),
    help="Keep batches in this folder, across restarts.",
)
def simulate(port: int, scenario: Path | None, folder: Path | None) -> None:
    """Run the Message Batches API simulator on 127.0.0.1 until it is interrupted.

    No model answers, and nothing is spent. Point a client at it with ANTHROPIC_BASE_URL and any key.
    """
    from batch_pipeline.simulator import ScenarioError, SimulatorError, serve

    def ready(url: str) -> None:
        click.echo(
            f"A simulator of the Message Batches API answers at {url} (no model, no charge)."
        )
        click.echo(f"  export ANTHROPIC_BASE_URL={url}/simulator ANTHROPIC_API_KEY=simulator")

    try:
        serve(port, scenario, folder, on_ready=ready)
    except (ScenarioError, SimulatorError) as error:
        raise ConfigurationError(str(error)) from None
