"""The newest load of each workload as a text file, which a Prometheus agent's textfile collector reads."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from batch_pipeline.rows import replacing
from batch_pipeline.rows.query import querying
from batch_pipeline.warehouse.metrics import WIDE

FILE = "batch_pipeline.prom"


def write_prometheus(state: Path) -> Path:
    """Writes `<state>/metrics/batch_pipeline.prom` anew from the Parquet copy of metrics.nights."""
    with querying(state / "tmp") as connection:
        found = connection.execute(
            f"SELECT DISTINCT ON (workload) workload, epoch(CAST(load AS TIMESTAMP)), promote, {', '.join(WIDE)} "
            "FROM read_parquet(?) ORDER BY workload, load DESC",
            [str(state / "metrics" / "nights.parquet")],
        ).fetchall()
    registry = CollectorRegistry()
    names = ("load_timestamp_seconds", "promote", *WIDE)
    gauges = {
        name: Gauge(
            f"batch_pipeline_{name}", _DESCRIBED.get(name, _OTHER), ["workload"], registry=registry
        )
        for name in names
    }
    for workload, *values in found:
        for name, value in zip(names, values, strict=True):
            if value is not None:
                gauges[name].labels(workload).set(float(value))
    path = state / "metrics" / FILE
    with replacing(path) as temporary:
        temporary.write_bytes(generate_latest(registry))
    return path


_OTHER = "Of the newest graded load, as in metrics.scorecards."
_DESCRIBED = {
    "load_timestamp_seconds": "The day of the newest graded load.",
    "promote": "Whether the gate lets the newest graded load through.",
}
