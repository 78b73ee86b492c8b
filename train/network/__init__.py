"""Pictures to embeddings of regions: encoders, their weights, decoders, concepts, region pooling."""
