"""Names that results carry: of encoders, of the conditions pictures are evaluated under, of evaluations."""

TRAINED = "trained"
UNTRAINED = "untrained"
OBJECT = "encoder"
"""A user's Python object that has no name of its own."""
COLOUR_POSITION = "colour + position"
COLOUR = "colour"

CLEAN = "clean"
CHANGED_LIGHT = "changed light"


def entry_name(
    name: str, *, class_set: str | None = None, short_side: int | None = None, averaged: bool = False
) -> str:
    """Name of an evaluation: results in other classes, of another picture size or averaged maps never mix with it."""
    parts = {"averaged": averaged, f"short-side-{short_side}": short_side, f"classes-{class_set}": class_set}
    return " ".join([*(part for part, is_so in parts.items() if is_so), name])
