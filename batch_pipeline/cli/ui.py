"""`ui`: Dagster's UI and daemon on the project's state."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import click
import yaml

from batch_pipeline.cli.demo import SAMPLE, forget_credentials, sample_scenario
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import Settings, project_root

LOCATION = "batch_pipeline"


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=3000,
    show_default=True,
    help="Port the UI listens on.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the UI listens on.")
def ui(port: int, host: str) -> None:
    """Run Dagster's UI with its daemon, until interrupted.

    Without an API key in the environment, the simulator answers instead, and this says so.
    """
    from batch_pipeline.dag.instance import dagster_home

    settings = Settings.from_environment()
    home = dagster_home(settings)
    with ExitStack() as stack:
        if not (os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")):
            from batch_pipeline.simulator import Simulator

            try:
                scenario = sample_scenario()
            except ConfigurationError:
                scenario = None
            simulator = stack.enter_context(
                Simulator(scenario, state_dir=settings.state / "simulator")
            )
            forget_credentials()
            os.environ["ANTHROPIC_BASE_URL"] = simulator.telling_url
            os.environ["ANTHROPIC_API_KEY"] = "simulator"
            click.echo(
                "No API key is set, so a simulator answers in place of the API: no model, no charge. "
                "Set ANTHROPIC_API_KEY to spend real money."
            )
        click.echo(f"Dagster's UI: http://{host}:{port}   state: {settings.state}")
        click.echo(
            f"Launch {SAMPLE}__submit for a day, and the sensor brings it to promotion."
            if (project_root() / "data" / SAMPLE).is_dir()
            else "Launch a workload's submit job for a day, and its sensor brings it to promotion."
        )
        sys.exit(_serve(home, host, port))


def _serve(home: Path, host: str, port: int) -> int:
    dg = Path(sys.executable).with_name("dg")
    process = subprocess.Popen(  # noqa: S603 - our own interpreter's dg
        [str(dg), "dev", "--workspace", str(_workspace(home)), "--host", host, "--port", str(port)],
        cwd=home,  # beside its own dagster.yaml, or Dagster warns about the project's
        # A shell starts background jobs with SIGINT ignored, and Dagster would inherit that for SIGTERM too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    # SIGTERM, and Ctrl-C also where a script started this in the background, must reach Dagster: left alone,
    # its daemon would go on launching paid runs.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    try:
        while process.poll() is None:
            # Not one long wait: a signal that the kernel hands to another thread would not end it.
            time.sleep(0.5)
        return process.returncode
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        return process.wait(timeout=60)


def _workspace(home: Path) -> Path:
    path = home / "workspace.yaml"
    module = {
        "module_name": "batch_pipeline.definitions",
        "working_directory": str(project_root()),
        "location_name": LOCATION,
    }
    path.write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}), encoding="utf-8")
    return path
