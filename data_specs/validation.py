"""Strict pydantic models, and their errors told by dotted path with the choices listed."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

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
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown setting '{path}' (choices: {', '.join(_fields_beside(model, first['loc']))})"
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if not path and message.startswith("'"):
        return message + more  # a check across fields, which names them itself
    return f"'{path or model.__name__}': {message}{more}"


def _fields_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that stand where the unknown one was given."""
    found: object = model
    for part in location[:-1]:
        if _is_model(found) and part in found.model_fields:
            found = found.model_fields[part].annotation
        else:
            found = next(reversed(get_args(found)), None)  # an entry of a list or a mapping
        found = next((choice for choice in get_args(found) if _is_model(choice)), found) if _is_union(found) else found
    return list((found if _is_model(found) else model).model_fields)


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_union(annotation: object) -> bool:
    return get_origin(annotation) in (Union, UnionType)
