"""Embedding maps of any pictures and vectors of regions as files: what is read, how it is written, resumable jobs."""
