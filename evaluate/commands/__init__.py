"""The commands of `vice-eval`, one module each; `evaluate/cli.py` puts them together."""
