"""The newest load of each workload as a text file, which a Prometheus agent's textfile collector reads."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from batch_pipeline.rows import replacing
from batch_pipeline.rows.query import querying
from batch_pipeline.warehouse.metrics import WIDE
from batch_pipeline.warehouse.place import Where, lake_of, state_of

FILE = "batch_pipeline.prom"


def write_prometheus(where: Where) -> Path:
    """Writes `<state>/metrics/batch_pipeline.prom` anew from metrics.nights: its Parquet copy, or the lake's."""
    state = state_of(where)
    query = (
        f"SELECT DISTINCT ON (workload) workload, epoch(CAST(load AS TIMESTAMP)), promote, {', '.join(WIDE)} "
        "FROM {} ORDER BY workload, load DESC"
    )
    if (settings := lake_of(where)) is not None:
        from batch_pipeline.warehouse.ducklake import read

        found = read(settings, query.format("metrics.nights"))
    else:
        with querying(state / "tmp") as connection:
            found = connection.execute(
                query.format("read_parquet(?)"), [str(state / "metrics" / "nights.parquet")]
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
