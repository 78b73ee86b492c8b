"""Strict pydantic models, and their errors told by dotted path with the choices listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from vice.data_specs.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of every configuration and record: unknown fields are refused, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def parse(model: type[Model], data: Mapping[str, Any], *, where: object) -> Model:
    """Validate `data` as `model`.

    Raises:
        InputError: naming the dotted path of the first wrong field, what is wrong, and the choices.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(_first_problem(model, error), where=where) from None


def _first_problem(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"]) or model.__name__
    if first["type"] == "extra_forbidden":
        return f"unknown setting '{path}' (choices: {', '.join(_fields_beside(model, first['loc']))})"
    message = first["msg"].removeprefix("Value error, ")
    more = error.error_count() - 1
    return f"'{path}': {message}" + (f" (and {more} more)" if more else "")


def _fields_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that stand where the unknown one was given."""
    for part in location[:-1]:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)
