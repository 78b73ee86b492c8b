"""Regions to concepts: what the loop asks of a method, SwAV, and offline k-means."""
