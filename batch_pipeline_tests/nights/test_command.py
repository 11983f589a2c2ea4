"""The command refuses before it writes anything."""

from pathlib import Path

import pytest

from batch_pipeline_tests.nights.__main__ import main


def test_a_state_folder_that_holds_something_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "ledger.db"
    kept.write_text("theirs")
    assert main(["--state", str(tmp_path)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]


@pytest.mark.parametrize("option", ["--nights", "--rows"])
def test_less_than_one_night_or_row_is_refused(option: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([option, "0"])
    assert stopped.value.code == 2
