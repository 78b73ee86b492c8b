"""A checkpoint to numbers and pictures (`vice-eval`): FAISS clusters, linear probe, report."""
