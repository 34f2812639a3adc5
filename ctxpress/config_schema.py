"""The JSON Schema of the configuration file, with the options of every known stage in it.

Editors use it for completion: put ``# yaml-language-server: $schema=ctxpress.schema.json`` on the
first line of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ctxpress.config import Config

__all__ = ["config_schema"]


def config_schema(stage_models: Mapping[str, type[BaseModel]] | None = None) -> dict[str, Any]:
    """The schema, JSON Schema draft 2020-12.

    With ``stage_models`` each entry of ``stages`` must be one of those stages with its own
    options; without them only ``use`` is described.
    """
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "ctxpress configuration"
    if stage_models:
        definitions = schema["$defs"]
        branches = []
        for name, model in sorted(stage_models.items()):
            key = f"stage.{name}"
            definitions |= _stage_definitions(key, name, model)
            branches.append({"$ref": f"#/$defs/{key}"})
        definitions["StageConfig"] = {
            "description": "One stage and its options.",
            "required": ["use"],
            "oneOf": branches,
        }
    return schema


def _stage_definitions(key: str, name: str, model: type[BaseModel]) -> dict[str, Any]:
    """The definitions of one stage's options; those of nested models go under its own name."""
    schema = model.model_json_schema(ref_template=f"#/$defs/{key}.{{model}}")
    nested = schema.pop("$defs", {})
    schema["properties"] = {"use": {"const": name}} | schema.get("properties", {})
    schema["required"] = ["use", *schema.get("required", [])]
    schema["additionalProperties"] = False
    return {key: schema} | {f"{key}.{inner}": value for inner, value in nested.items()}
