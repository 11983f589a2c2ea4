"""A user's own Pandera schema: found, imported apart from other workloads', and asked about rows."""

from __future__ import annotations

import copy
import importlib
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pandera

_IMPORTING = threading.RLock()


@dataclass(frozen=True)
class UserChecks:
    """A Pandera schema that judges rows whose answers already meet the contract."""

    reference: str
    schema: pandera.DataFrameSchema

    def columns(self) -> tuple[str, ...]:
        """The columns the schema names: fields of the answer, or columns of the source."""
        return tuple(str(name) for name, column in self.schema.columns.items() if not column.regex)

    def require_columns(self, allowed: Collection[str]) -> None:
        """Raises ConfigurationError where the schema names a column that is not in `allowed`."""
        for name in self.columns():
            if name not in allowed:
                raise ConfigurationError(
                    f"checks {self.reference}: column {name!r} is neither a field of output nor a"
                    f" column of the source; it may use {', '.join(sorted(allowed))}."
                )

    def failures(self, frame: pd.DataFrame) -> dict[int, str]:
        """The rows that fail, by index label, each with the name of the first check that it fails.

        A name is `<column>:<check>`, or `<check>` where it looks at the whole frame.

        Args:
            frame: any part of a load's rows, in the dtypes of `field_checks.nullable_frame`, with an
                integer index. A column declared `int`, `bool` or `float` is handed over as such.

        Raises:
            ConfigurationError: a check raised, or failed without saying for which rows.
        """
        from batch_pipeline.workload.failures import failures

        names: dict[int, str] = {}
        remaining = frame
        while len(remaining):
            mishap = ""
            try:
                found = failures(self.schema, self._as_declared(remaining))
            except Exception as error:  # noqa: BLE001
                found, mishap = [], type(error).__name__
            if mishap:
                # Raised out of the handler: the cause's text may quote rows and would be logged.
                raise ConfigurationError(
                    f"checks {self.reference}: the schema raised {mishap} before any of its checks"
                    " could answer; mend its parsers and types."
                )
            spoiling = [each for each in found if each.spoils and len(each.rows)]
            for failure in spoiling or found:
                if not len(failure.rows):
                    raise ConfigurationError(
                        f"checks {self.reference}: {failure.name} {failure.problem}."
                    )
                for row in failure.rows.tolist():
                    names.setdefault(row, failure.name)
            if not spoiling:
                break
            # Without the rows that spoil a column's type, the other rows can be judged.
            remaining = frame.drop(index=list(names))
        return names

    def _as_declared(self, frame: pd.DataFrame) -> pd.DataFrame:
        changes: dict[str, Any] = {}
        for name in self.columns():
            declared = getattr(self.schema.columns[name].dtype, "type", None)
            kind = getattr(declared, "kind", "")
            # `int` and `bool` are what people write; only nulls need the types that can hold them.
            if name in frame and str(frame[name].dtype) in {"Int64", "boolean"}:
                numpy_type = str(declared) in {"int64", "bool"} and not frame[name].hasnans
                if numpy_type or kind == "f":
                    changes[name] = declared
        return frame.astype(changes)


def load_checks(reference: str, folder: Path) -> UserChecks:
    """The Pandera schema that `reference` names.

    Args:
        reference: `module:Attribute` or `file.py:Attribute`; a module in `folder` comes before an
            installed one. The attribute is a pandas DataFrameModel or DataFrameSchema.
        folder: the workload's.

    Raises:
        ConfigurationError: there is no such module, attribute or schema, or it has a rule that
            cannot be judged row by row.
    """
    import pandera.pandas as pandera

    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute.isidentifier():
        raise ConfigurationError(
            f"checks {reference}: write module:Attribute, such as my_checks:TicketFrame."
        )
    with _importing_from(folder, module_name) as name:
        module = _import(name, reference, folder)
        if not hasattr(module, attribute):
            raise ConfigurationError(
                f"checks {reference}: module {module_name} has no attribute {attribute};"
                " define it there, or mend the name."
            )
        found = getattr(module, attribute)
        # Within the block: a model's annotations are looked up in its module.
        if isinstance(found, type) and issubclass(found, pandera.DataFrameModel):
            found = _made(found.to_schema, reference)
        if not isinstance(found, pandera.DataFrameSchema):
            raise ConfigurationError(
                f"checks {reference}: {attribute} is not a Pandera schema for pandas;"
                " make it a pandera.pandas.DataFrameModel or DataFrameSchema."
            )
        return UserChecks(reference, _row_by_row(found, reference))


def _import(name: str, reference: str, folder: Path) -> Any:
    missing = ModuleNotFoundError(name=name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error
    except Exception as error:
        raise ConfigurationError(
            f"checks {reference}: importing {name} raised {type(error).__name__}: {error}."
        ) from error
    if missing.name is not None and (name == missing.name or name.startswith(f"{missing.name}.")):
        raise ConfigurationError(
            f"checks {reference}: there is no module {name} in {folder}, nor is one installed;"
            " put the file there, or mend the name."
        )
    raise ConfigurationError(
        f"checks {reference}: {name} imports {missing.name}, which is not installed."
    ) from missing


def _made(to_schema: Callable[[], pandera.DataFrameSchema], reference: str) -> Any:
    try:
        return to_schema()
    except Exception as error:
        raise ConfigurationError(
            f"checks {reference}: Pandera cannot read the model: {error}."
        ) from error


@contextmanager
def _importing_from(folder: Path, module: str) -> Iterator[str]:
    """Yields the name to import, with `folder` searched first; leaves no trace of it behind.

    Two workloads may each have a `my_checks.py`: what comes from a folder is taken out of
    `sys.modules` again, and whatever had that name before is put back.
    """
    name = module.removesuffix(".py").replace("/", ".")
    top = name.partition(".")[0]
    folder = folder.resolve()
    with _IMPORTING:
        own = any((folder / each).exists() for each in (f"{top}.py", top))
        hidden = {
            key: sys.modules.pop(key)
            for key in list(sys.modules)
            if own and (key == top or key.startswith(f"{top}."))
        }
        known, search = set(sys.modules), list(sys.path)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            yield name
        finally:
            sys.path[:] = search
            for key in set(sys.modules) - known:
                file = getattr(sys.modules[key], "__file__", None)
                if (own and key.partition(".")[0] == top) or _is_within(file, folder):
                    del sys.modules[key]
            sys.modules.update(hidden)


def _is_within(file: str | None, folder: Path) -> bool:
    return file is not None and Path(file).resolve().is_relative_to(folder)


def _row_by_row(schema: pandera.DataFrameSchema, reference: str) -> pandera.DataFrameSchema:
    """A copy of `schema` that reports every failing row, whatever it would do elsewhere."""
    schema = copy.copy(schema)
    schema.columns = {name: copy.copy(column) for name, column in schema.columns.items()}
    for part in (schema, *schema.columns.values()):
        if part.unique:
            raise ConfigurationError(
                f"checks {reference}: `unique` looks at many rows at once, and a check must judge"
                " each row by itself; remove it."
            )
        # A dropped row would count as one that passed.
        part.drop_invalid_rows = False
        part.checks = [
            _settled(copy.copy(check), reference)
            for check in part.checks
            if not check.raise_warning
        ]
    return schema


def _settled(check: Any, reference: str) -> Any:
    """`check`, with an unknown answer (pd.NA) read as its `ignore_na` says rather than as an error."""
    import pandas as pd

    if check.groupby is not None:
        raise ConfigurationError(
            f"checks {reference}: `groupby` of {check.name} looks at many rows at once, and a check"
            " must judge each row by itself; remove it."
        )
    if check.registry_name is not None:
        # Pandera's own: it looks its function up anew at every call, and asks about no nulls.
        return check
    answer = check._check_fn  # noqa: SLF001

    def settled(*args: Any, **kwargs: Any) -> Any:
        verdict = answer(*args, **kwargs)
        if isinstance(verdict, pd.Series | pd.DataFrame):
            return verdict.fillna(check.ignore_na).astype(bool)
        return check.ignore_na if verdict is pd.NA else verdict

    check._check_fn = settled  # noqa: SLF001
    return check
