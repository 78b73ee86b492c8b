"""Embedding maps of any pictures as files: what is read, how it is written, and the job that can be stopped."""
