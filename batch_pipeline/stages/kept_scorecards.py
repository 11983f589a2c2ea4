"""The scorecard that stays of a load when its rows are purged, as a file per generation.

It is written when the load is graded and when it is promoted: later the workload may be declared no more, or
its gates may say something else. It lies in a file and not in the warehouse, since whoever has that open must
not keep a scorecard from being read.
"""

from pydantic import TypeAdapter

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Load
from batch_pipeline.rows import Place, replacing
from batch_pipeline.stages.scorecard import Scorecard

_CARD = TypeAdapter(Scorecard)


def keep_scorecard(root: Place, record: Load, card: Scorecard) -> None:
    """Writes it down below `root`, as `rows.shared` gives it, in the place of the same generation's earlier one."""
    with replacing(_path(root, record)) as temporary:
        temporary.write_bytes(_CARD.dump_json(card, indent=1))


def is_kept(root: Place, record: Load) -> bool:
    """Whether there is one. Loads that an older version graded have none."""
    return _path(root, record).is_file()


def kept_scorecard(root: Place, record: Load) -> Scorecard:
    """As it was when the load was graded or promoted last. Its spend counts earlier generations, too.

    Raises PipelineError where it cannot be read.
    """
    path = _path(root, record)
    try:
        return _CARD.validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise PipelineError(
            f"{path}, which keeps the scorecard of {record.workload} {record.load}, is damaged or missing; "
            "restore it from a backup of the state folder."
        ) from None


def _path(root: Place, record: Load) -> Place:
    name = f"g{record.generation}.json"
    return root / "scorecards" / record.workload / record.load / name
