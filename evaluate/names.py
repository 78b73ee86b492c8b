"""Names that results carry: of encoders, of the conditions pictures are evaluated under, of evaluations."""

TRAINED = "trained"
UNTRAINED = "untrained"
STEP_0 = "step 0"
"""The network of a run that starts from pretrained weights, before its first step."""
FROZEN = "frozen encoder"
"""The pretrained encoder that a run starts from, with all of its maps."""
RANDOM = "random encoder"
"""The random encoder that a run starts from, with all of its maps."""
OBJECT = "encoder"
"""A user's Python object that has no name of its own."""
COLOUR_POSITION = "colour + position"
COLOUR = "colour"
BASELINES = (FROZEN, RANDOM, STEP_0, UNTRAINED, COLOUR_POSITION, COLOUR)
"""What stands next to an encoder in results."""

CLEAN = "clean"
CHANGED_LIGHT = "changed light"


def reduced_name(name: str, dims: int) -> str:
    """Name of an encoder whose values are reduced to `dims` by PCA."""
    return f"{name}, {dims} values"


def entry_name(
    name: str, *, class_set: str | None = None, short_side: int | None = None, averaged: bool = False
) -> str:
    """Name of an evaluation: results in other classes, of another picture size or averaged maps never mix with it."""
    parts = {"averaged": averaged, f"short-side-{short_side}": short_side, f"classes-{class_set}": class_set}
    return " ".join([*(part for part, is_so in parts.items() if is_so), name])


def numbered(name: str, number: int) -> str:
    """Key of the entry of a name with the first, second, ... settings."""
    return name if number == 1 else f"settings-{number} {name}"
