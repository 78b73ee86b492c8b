"""Names that results carry: of encoders, of the conditions pictures are evaluated under, of evaluations."""

TRAINED = "trained"
UNTRAINED = "untrained"
OBJECT = "encoder"
"""A user's Python object that has no name of its own."""
COLOUR_POSITION = "colour + position"
COLOUR = "colour"

CLEAN = "clean"
CHANGED_LIGHT = "changed light"


def entry_name(name: str, *, class_set: str | None = None, short_side: int | None = None) -> str:
    """Name of an evaluation: results in other classes, or of pictures brought to another size, never mix with it."""
    size = "" if short_side is None else f"short-side-{short_side} "
    return size + (name if class_set is None else f"classes-{class_set} {name}")
