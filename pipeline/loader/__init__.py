"""Shards to batches of views: order, geometry, chance drawn from counters, the DALI reader and the plain one."""
