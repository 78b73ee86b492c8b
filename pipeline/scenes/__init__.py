"""A deterministic generator of labelled street-like scenes: the data of `make demo` and of quick experiments."""
