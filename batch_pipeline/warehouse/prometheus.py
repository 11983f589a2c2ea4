"""The newest load of each workload as a text file, which a Prometheus agent's textfile collector reads."""

from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from batch_pipeline.rows import replacing
from batch_pipeline.warehouse.history import last_of_each
from batch_pipeline.warehouse.metrics import WIDE
from batch_pipeline.warehouse.place import Where, state_of

FILE = "batch_pipeline.prom"


def write_prometheus(where: Where) -> Path:
    """Writes `<state>/metrics/batch_pipeline.prom` anew from metrics.nights: its Parquet copy, or the lake's."""
    found = last_of_each(where, ("workload", "load", "promote", *WIDE), most=1)
    registry = CollectorRegistry()
    names = ("load_timestamp_seconds", "promote", *WIDE)
    gauges = {
        name: Gauge(
            f"batch_pipeline_{name}", _DESCRIBED.get(name, _OTHER), ["workload"], registry=registry
        )
        for name in names
    }
    for workload, load, *values in found:
        day = datetime.fromisoformat(load).replace(tzinfo=UTC)
        for name, value in zip(names, (day.timestamp(), *values), strict=True):
            if value is not None:
                gauges[name].labels(workload).set(float(value))
    path = state_of(where) / "metrics" / FILE
    with replacing(path) as temporary:
        temporary.write_bytes(generate_latest(registry))
    return path


_OTHER = "Of the newest graded load, as in metrics.scorecards."
_DESCRIBED = {
    "load_timestamp_seconds": "The day of the newest graded load.",
    "promote": "Whether the gate lets the newest graded load through.",
}
