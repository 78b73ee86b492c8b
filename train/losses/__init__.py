"""Loss terms, one file each in `terms/`: a new file there is a new section of `losses`."""
