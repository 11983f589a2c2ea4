"""Finds the declared workloads, without Dagster: the CLI's way to a workload by its name.

Looks in the folders that Dagster loads too: `defs/` of this package, and BATCH_PIPELINE_WORKLOADS.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import SHIPPED_WORKLOADS, Settings
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload

COMPONENT_TYPE = "batch_pipeline.BatchWorkload"


def declaration_files(folder: Path) -> list[Path]:
    """Every defs.yaml below `folder`, sorted."""
    return sorted(folder.rglob("defs.yaml"))


def read_declarations(path: Path) -> Iterator[WorkloadSpec]:
    """The workloads declared in one file.

    Raises:
        ConfigurationError: naming file, line and field.
    """
    try:
        text = path.read_text(encoding="utf-8")
        documents = [node for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
        values = [value for value in yaml.safe_load_all(text) if value is not None]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid YAML: {_one_line(error)}.") from None
    for node, value in zip(documents, values, strict=True):
        if not isinstance(value, dict) or value.get("type") != COMPONENT_TYPE:
            continue
        try:
            yield WorkloadSpec.model_validate(value.get("attributes") or {})
        except ValidationError as error:
            raise ConfigurationError(_sentence(path, node, error)) from None


def find_workload(name: str, settings: Settings) -> Workload:
    """The workload called `name`. Raises ConfigurationError where it is missing or declared twice."""
    found: list[tuple[Path, WorkloadSpec]] = []
    names: list[str] = []
    for path in all_declarations(settings):
        # A neighbour's broken file must not keep this workload from running.
        try:
            specs = list(read_declarations(path))
        except ConfigurationError:
            if _names(path, name):
                raise
            continue
        names += [spec.name for spec in specs]
        found += [(path, spec) for spec in specs if spec.name == name]
    if not found:
        raise ConfigurationError(
            f"There is no workload {name!r}; known: {', '.join(sorted(names)) or 'none'}. "
            "Make one with `batch-pipeline new`, and set BATCH_PIPELINE_WORKLOADS to the folder "
            "that holds its folder."
        )
    if len(found) > 1:
        raise ConfigurationError(
            f"The workload {name!r} is declared twice, in {found[0][0]} and {found[1][0]}; rename one."
        )
    path, spec = found[0]
    return Workload.build(spec, path.parent)


def all_declarations(settings: Settings) -> list[Path]:
    """Every declaration file of the project and of BATCH_PIPELINE_WORKLOADS, each once."""
    folders = [SHIPPED_WORKLOADS, *([settings.workloads] if settings.workloads else [])]
    return list(dict.fromkeys(path.resolve() for f in folders for path in declaration_files(f)))


def _names(path: Path, name: str) -> bool:
    try:
        values = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError):
        return path.parent.name == name
    attributes = [v.get("attributes") for v in values if isinstance(v, dict)]
    return any(isinstance(a, dict) and a.get("name") == name for a in attributes) or (
        path.parent.name == name
    )


def _sentence(path: Path, document: yaml.Node, error: ValidationError) -> str:
    first = error.errors()[0]
    location = ("attributes", *first["loc"])
    field = ".".join(str(part) for part in first["loc"]) or "attributes"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "there is no such field"
    more = error.error_count() - 1
    return (
        f"{path}, line {_line(document, location)}: {field}: {message}"
        + (f" (and {more} more)" if more else "")
        + "."
    )


def _line(node: yaml.Node, location: tuple[Any, ...]) -> int:
    """The 1-based line of the deepest part of `location` that the document has."""
    line = node.start_mark.line
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, node = key.start_mark.line, value
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
