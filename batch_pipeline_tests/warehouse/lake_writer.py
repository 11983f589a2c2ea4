"""One of several writers: promotes and measures loads, one after the other, as fast as it can.

    python -m batch_pipeline_tests.warehouse.lake_writer FOLDER WORKLOAD ROWS LOAD [LOAD ...]

Prints how many seconds all of them took. The warehouse is where the environment says.
"""

import sys
import time
from pathlib import Path

import duckdb

from batch_pipeline.settings import Settings
from batch_pipeline.warehouse import (
    GateRecord,
    LoadRecord,
    Measure,
    promote_rows,
    write_metrics,
)


def main(folder: Path, workload: str, rows: int, loads: list[str]) -> float:
    settings = Settings.from_environment()
    began = time.monotonic()
    for load in loads:
        file = folder / f"{workload}-{load}.parquet"
        if not file.is_file():
            write_rows(file, load, rows)
        write_metrics(
            settings,
            LoadRecord(workload, load, 1, "declaration"),
            fingerprint=load,
            measures=[Measure("validity", 9.0, 10.0, 0.9), Measure("cost_usd", 1.5, None, 1.5)],
            gate=GateRecord(True, ["all is well"], None),
        )
        promote_rows(
            settings,
            workload=workload,
            load=load,
            key="id",
            rows=file,
            fingerprint=load,
            override_reason=None,
        )
    return time.monotonic() - began


def write_rows(file: Path, load: str, rows: int) -> None:
    """The same keys in every load."""
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT 'k' || i AS id, 'of {load}' AS label, 0 AS _tier, 'm' AS _model, 'b' AS _batch_id, "
            f"'{load}' AS _load FROM range({rows}) AS t(i)) TO '{file}' (FORMAT parquet)"
        )


if __name__ == "__main__":
    print(f"{main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]):.3f}")  # noqa: T201
