"""What a dataset is and what a shard is: the contracts that every other part reads, and nothing that computes."""
