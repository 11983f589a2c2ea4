"""The command line. Each command lives in a module of its own and is imported only when it is called."""

import importlib
import sys
from typing import Any

import click

from batch_pipeline import __version__
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.state_folder import private

# Command name to (module, one line for --help): the help needs no heavy import.
COMMANDS = {
    "run": ("run", "Drive one load until it is promoted or held."),
    "scorecard": ("show", "The measures of a load."),
    "estimate": ("estimate", "What a load costs, before anything is sent."),
    "prices": ("prices", "The prices in force, and how old they are."),
    "export": ("export", "Write the promoted rows of a load to a file."),
    "dispositions": ("export", "Write what became of every source row to a file."),
    "review": ("review", "Rows that no model could answer: out to people, and back in."),
    "cancel": ("cancel", "Stop spending on a load, and close it with what came."),
    "promote": ("promote", "Promote a load that the gate holds, with a reason."),
    "rollback": ("rollback", "Take a promoted load back out of the system of record."),
    "bakeoff": ("bakeoff", "The golden set over several models: the cheapest that is good enough."),
    "baseline": ("baseline", "Record or show the golden outcome that loads are held against."),
    "alerts": ("alerts", "What is wrong now, and who was told."),
    "purge": ("purge", "Remove the rows of old loads and keep their measures."),
    "migrate": ("migrate", "Move the ledger into another database."),
    "new": ("new", "Scaffold a workload from a data file."),
    "simulate": ("simulate", "Run the API simulator by itself."),
    "demo": ("demo", "Run the sample workload against the simulator."),
    "ui": ("ui", "Dagster's UI and daemon on the project's state."),
}

# Those that end with their exit code when they are asked to stop, from the first moment on.
_STOPPABLE = ("run", "cancel", "bakeoff", "demo")

EXIT_WRONG_USE = 2
EXIT_HELD = 3
EXIT_UNFINISHED = 4


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"batch_pipeline.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in _STOPPABLE:
            from batch_pipeline.cli.stops import caught

            # Before the command is imported: that takes a second or two.
            ctx.with_resource(caught())
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with private():
                return super().invoke(ctx)
        except ConfigurationError as error:
            click.echo(f"batch-pipeline: {error}", err=True)
            sys.exit(EXIT_WRONG_USE)
        except PipelineError as error:
            click.echo(f"batch-pipeline: {error}", err=True)
            sys.exit(EXIT_UNFINISHED)
        except KeyboardInterrupt:
            click.echo("batch-pipeline: stopped; call again to go on.", err=True)
            sys.exit(EXIT_UNFINISHED)
        except Exception as error:
            from batch_pipeline.obstacles import obstacle

            found = obstacle(error)
            if found is None:
                raise
            click.echo(f"batch-pipeline: {found}", err=True)
            sys.exit(EXIT_UNFINISHED)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batch-pipeline")
def main() -> None:
    """Bulk Claude jobs over the Message Batches API: run them, and prove what came out.

    The environment says where: ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL, BATCH_PIPELINE_STATE (folder of all
    state), BATCH_PIPELINE_WORKLOADS (extra folder of workloads), BATCH_PIPELINE_POLL_SECONDS,
    BATCH_PIPELINE_GRACE_SECONDS, BATCH_PIPELINE_MAX_IN_FLIGHT, BATCH_PIPELINE_AT_ONCE (batches
    uploaded or read back side by side), BATCH_PIPELINE_PRICES (YAML of further prices),
    BATCH_PIPELINE_ALERTS (YAML that says who is told of alerts). Shared by several machines:
    BATCH_PIPELINE_LEDGER (Postgres), BATCH_PIPELINE_ROWS (object store), BATCH_PIPELINE_WAREHOUSE (DuckLake).
    """
