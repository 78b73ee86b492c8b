"""Loss terms, one file each: a new file here is a new section of `losses`."""
