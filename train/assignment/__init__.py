"""Regions to concepts: what the trainer asks of a method, and the methods (one file each in `methods/`)."""
