"""The configuration of runs that take seconds, for the tests of whatever trains."""

from vice.train.config import TrainConfig

TINY = {
    "name": "tiny",
    "model": {"encoder": "regnetx_002", "decoder_channels": 64, "embedding_dim": 16},
    "views": {"num_views": 2, "size": 64, "regions": "slic:12"},
    "assignment": {"num_concepts": 8, "swav": {"queue_length": 40}, "freeze_concepts_steps": 1},
    "optimiser": {"name": "adamw", "learning_rate": 1e-3},
    "global_batch": 2,
    "epochs": 1.2,
    "checkpoint_every": 2,
    "keep_checkpoints": 9,
    "log_every": 1,
}


def tiny(**changes) -> TrainConfig:
    """The configuration with some of its fields changed."""
    return TrainConfig(**{**TINY, **changes})
