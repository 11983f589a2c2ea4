"""The page of a load that was really sent, answered, graded and promoted."""

import re
from collections.abc import Callable

from batch_pipeline.report import index_path, write_report
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline_tests.night import Night


def test_it_follows_a_load_from_before_it_began_to_its_promotion(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    simulate()
    made = night()
    texts = []

    def write() -> None:
        path = write_report(made.context, measure_load(made.context))
        texts.append(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", path.read_text())))

    write()
    made.submit()
    write()
    made.settle()
    write()
    grade(made.context)
    write()
    made.publish()
    write()

    titles = ["Not begun", "In flight", "May be promoted", "May be promoted", "Promoted"]
    assert [text.split("·")[0].strip() for text in texts] == titles
    assert "12 = 12" not in texts[0]
    assert "12 source rows, 5 golden rows" in texts[4]
    assert "Night by night" not in texts[2]
    assert "1 graded night" in texts[4]
    assert "✓ promoted" in index_path(made.context.settings.state).read_text().replace(
        '<span aria-hidden="true">✓</span>', "✓"
    )
