"""Assignment methods, one file each: a new file here is a new value of `assignment.method`."""
