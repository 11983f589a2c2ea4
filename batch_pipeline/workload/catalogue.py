"""Finds the declared workloads, without Dagster: the CLI's way to a workload by its name.

Looks in the folders that Dagster loads too: `defs/` of this package, and BATCH_PIPELINE_WORKLOADS.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import SHIPPED_WORKLOADS, Settings
from batch_pipeline.workload.declaration import read_field
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload
from batch_pipeline.workload.yaml_document import Document, read_documents

COMPONENT_TYPE = "batch_pipeline.BatchWorkload"
_COMPONENT_TYPES = (COMPONENT_TYPE, "batch_pipeline.workload.component.BatchWorkload")

# What Dagster knows beside them in a component's file.
_DOCUMENT_KEYS = (
    "type",
    "attributes",
    "requirements",
    "post_processing",
    "template_vars_module",
)


def declaration_files(folder: Path) -> list[Path]:
    """Every defs.yaml below `folder`, sorted; hidden folders (.venv, .git) are left out."""
    return sorted(
        path
        for path in folder.rglob("defs.yaml")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def read_declarations(path: Path) -> Iterator[WorkloadSpec]:
    """The workloads declared in one file. Components of other types are passed over.

    Raises:
        ConfigurationError: naming file, line and field.
    """
    for document in read_documents(path):
        if _is_ours(document):
            yield _spec(document)


def find_workload(name: str, settings: Settings) -> Workload:
    """The workload called `name`. Raises ConfigurationError where it is missing or declared twice."""
    found: list[tuple[Path, WorkloadSpec]] = []
    names: list[str] = []
    broken: list[Path] = []
    for path in all_declarations(settings):
        # A neighbour's broken file must not keep this workload from running.
        try:
            specs = list(read_declarations(path))
        except ConfigurationError:
            if _names(path, name):
                raise
            broken.append(path)
            continue
        names += [spec.name for spec in specs]
        found += [(path, spec) for spec in specs if spec.name == name]
    if not found:
        raise ConfigurationError(
            f"There is no workload {name!r}; known: {', '.join(sorted(names)) or 'none'}"
            + (f", and {broken[0]} cannot be read" if broken else "")
            + ". Make one with `batch-pipeline new`, and set BATCH_PIPELINE_WORKLOADS to the folder "
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
    """Whether a file that cannot be read as a declaration is the one of workload `name`."""
    if path.parent.name == name:
        return True
    try:
        values = [document.value for document in read_documents(path)]
    except ConfigurationError:
        return False
    attributes = [value.get("attributes") for value in values if isinstance(value, dict)]
    return any(isinstance(each, dict) and each.get("name") == name for each in attributes)


def _is_ours(document: Document) -> bool:
    value = document.value
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise ConfigurationError(
            f"{document.at(())}: there is no type; a workload begins with `type: {COMPONENT_TYPE}` and "
            "has its fields under `attributes:`."
        )
    kind = value["type"]
    if kind not in _COMPONENT_TYPES:
        if kind.startswith("batch_pipeline.") or "batchworkload" in kind.lower():
            raise ConfigurationError(
                f"{document.at(['type'])}: there is no component {kind}; write {COMPONENT_TYPE}."
            )
        return False
    for key in value:
        if key not in _DOCUMENT_KEYS:
            raise ConfigurationError(
                f"{document.at([key])}: there is no such field as {key!r} here; a workload's fields "
                "belong under `attributes:`."
            )
    return True


def _spec(document: Document) -> WorkloadSpec:
    try:
        spec = WorkloadSpec.model_validate(document.value.get("attributes") or {})
    except ValidationError as error:
        raise ConfigurationError(_sentence(document, error)) from None
    for name, schema in spec.output.items():
        try:
            read_field(name, schema)
        except ConfigurationError as error:
            # Its sentences begin with the place, as in output.label.type.
            place = str(error).partition(":")[0].split(".")
            raise ConfigurationError(f"{document.at(['attributes', *place])}: {error}") from None
    return spec


def _sentence(document: Document, error: ValidationError) -> str:
    # An unknown field often explains why another one is missing.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    location = [part for part in first["loc"] if part != "[key]"]
    named = location[:-1] if "[key]" in first["loc"] else location
    field = ".".join(str(part) for part in named) or "attributes"
    more = error.error_count() - 1
    return (
        f"{document.at(['attributes', *location])}: {field}: {_problem(first)}"
        + (f" (and {more} more)" if more else "")
        + "."
    )


def _problem(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return f"there is no such field; known are {', '.join(_known_fields(error['loc']))}"
    if error["type"] == "missing":
        return "is missing"
    if "[key]" in error["loc"]:
        return (
            f"the name {error['input']!r} is not text; put it in quotes (YAML reads yes, no, on and off as "
            "true or false)"
        )
    message = error["msg"].removeprefix("Value error, ")
    return message.replace("Input should", "must").replace("List should", "must").rstrip(".")


def _known_fields(location: tuple[int | str, ...]) -> list[str]:
    """The fields that stand where `location`, an unknown field, was given."""
    model: type[BaseModel] = WorkloadSpec
    for part in location[:-1]:
        if isinstance(part, str):
            model = _section(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model within an annotation such as `GoldenSpec | None` or `list[TierSpec]`."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None
