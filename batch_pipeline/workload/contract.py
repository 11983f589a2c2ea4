"""What a valid answer is: one declaration, read as JSON Schema for the API and as Pandera for the gate.

The API's schema language has no bounds, lengths or patterns. What it cannot say goes into the
field's description for the model to read, and `Contract.pandera_schema` checks it afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.workload.declaration import read_field
from batch_pipeline.workload.field import Field

if TYPE_CHECKING:
    import pandera.pandas as pa

# The API's limit on structured outputs: this many parameters of a union type in one schema.
MAX_NULLABLE = 16


@dataclass(frozen=True)
class Contract:
    """The fields of a valid answer, in the order they were declared. All of them are required."""

    fields: tuple[Field, ...]

    @classmethod
    def from_declaration(cls, output: Mapping[str, Mapping[str, Any]]) -> Contract:
        """Read a workload's `output:` mapping of field name to JSON Schema.

        Raises ConfigurationError naming the field and the keyword that is not understood.
        """
        if not isinstance(output, Mapping) or not output:
            raise ConfigurationError(
                "output: declare at least one field, each with its JSON Schema,"
                " such as `category: {type: string, enum: [billing, bug]}`."
            )
        declared = tuple(read_field(name, schema) for name, schema in output.items())
        folded: dict[str, str] = {}
        for field in declared:
            twin = folded.setdefault(field.name.lower(), field.name)
            if twin != field.name:
                raise ConfigurationError(
                    f"output.{field.name}: differs from output.{twin} only in case,"
                    " which SQL does not tell apart; rename one of them."
                )
        unions = sum(each.nullable + bool(each.items and each.items.nullable) for each in declared)
        if unions > MAX_NULLABLE:
            raise ConfigurationError(
                f"output: {unions} fields may be null and the API allows {MAX_NULLABLE} per schema;"
                " make the others plain, with a value that says `none`."
            )
        return cls(declared)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def api_schema(self) -> dict[str, Any]:
        """The JSON Schema for `output_config.format`; the same declaration gives the same bytes."""
        return {
            "type": "object",
            "properties": {field.name: field.api_schema() for field in self.fields},
            "required": list(self.names),
            "additionalProperties": False,
        }

    def duckdb_type(self, field: Field) -> str:
        """The SQL type in which a valid answer's field is stored."""
        return field.duckdb_type

    def pandera_schema(self) -> pa.DataFrameSchema:
        """The same declaration for a pandas frame: all that JSON Schema says beyond the types.

        Columns are `str`, `Int64`, `float64`, `boolean`, or an Arrow list for an array. A check's
        name is the first part of the reason that a verdict gives.
        """
        # Pandera and pandas take a second to import, which a command line should not wait for.
        from batch_pipeline.workload.field_checks import schema_of

        return schema_of(self.fields)

    def fingerprint(self) -> str:
        """The sha256 of what was declared, in hex: the order of fields and their words count."""
        canonical = [field.canonical() for field in self.fields]
        return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()
