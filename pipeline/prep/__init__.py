"""Pictures to shards (`vice-prep`): standardise, regions, density, tars, the Ray job, verify and preview. No torch."""
