"""Rows stay in the state folder, and cost nothing more there, unless the environment says otherwise."""

import subprocess
import sys
from pathlib import Path

from batch_pipeline.rows import LoadFolder, shared
from batch_pipeline.settings import Settings

_APART = ("fsspec", "s3fs", "upath", "aiobotocore")


def test_without_an_address_rows_are_in_the_state_folder(tmp_path: Path) -> None:
    settings = Settings.from_environment()
    folder = LoadFolder.configured(settings, "questions", "2026-11-20", 2)
    assert shared(settings) == settings.state
    assert folder.root == folder.local == settings.state / "rows/questions/2026-11-20/g2"


def test_a_file_url_is_a_folder_for_what_hosts_share_alone() -> None:
    settings = Settings.from_environment({"BATCH_PIPELINE_ROWS": "file:///mnt/a%20share/"})
    folder = LoadFolder.configured(settings, "questions", "2026-11-20", 1)
    assert folder.source == Path("/mnt/a share/rows/questions/2026-11-20/g1/source.parquet")
    assert folder.body("c").is_relative_to(settings.state)
    assert folder.review.is_relative_to(settings.state)


def test_without_an_address_no_filesystem_is_imported() -> None:
    code = (
        "import sys; from batch_pipeline.stages import collect, promote, submit; "
        "from batch_pipeline.rows.query import querying; from pathlib import Path; import tempfile\n"
        "with tempfile.TemporaryDirectory() as folder, querying(Path(folder)) as connection:\n"
        "    connection.execute('SELECT 1')\n"
        f"print([name for name in {_APART} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
