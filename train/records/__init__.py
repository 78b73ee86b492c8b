"""What a run leaves in its folder and says of itself: configuration, checkpoints, metrics, pictures, failures."""
