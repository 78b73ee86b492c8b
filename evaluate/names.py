"""Names that results carry: of encoders and of the conditions pictures are evaluated under."""

TRAINED = "trained"
UNTRAINED = "untrained"
COLOUR_POSITION = "colour + position"

CLEAN = "clean"
CHANGED_LIGHT = "changed light"
CONDITIONS = (CLEAN, CHANGED_LIGHT)


def in_classes(name: str, class_set: str | None) -> str:
    """Name of an evaluation whose labels were read in a set of classes: results of different sets never mix."""
    return name if class_set is None else f"classes-{class_set} {name}"
