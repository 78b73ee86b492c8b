"""How embeddings are scored against labels: linear probes, clusters, nearest neighbours."""
