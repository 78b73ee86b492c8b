"""Names that results carry: of encoders and of the conditions pictures are evaluated under."""

TRAINED = "trained"
UNTRAINED = "untrained"
COLOUR_POSITION = "colour + position"

CLEAN = "clean"
CHANGED_LIGHT = "changed light"
CONDITIONS = (CLEAN, CHANGED_LIGHT)
