"""Keep the embedding of a region close to the teacher's vector of it: 1 minus their cosine, in every view.

The teacher's vectors are computed once (`vice-eval embed --regions`), at any picture size, so the network learns to see
from one small view what a frozen encoder sees at leisure; as feature distillation, e.g. Wei et al. 2022.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float

from vice.data_specs.errors import InputError
from vice.train.losses.term import LOSSES, LossTerm, RegionBatch, TermSettings

if TYPE_CHECKING:
    from torch import Tensor

    from vice.train.config import TrainConfig


class DistillationSettings(TermSettings):
    """Cosine to the teacher's region vectors."""


@LOSSES.register("distillation")
class Distillation(LossTerm):
    """1 - cosine, mean over regions, then pictures, then views: 0 is the teacher itself."""

    Settings = DistillationSettings

    def __call__(self, regions: RegionBatch) -> Float[Tensor, ""]:
        """The term."""
        cosine = (regions.embeddings * regions.teacher).sum(-1).mean(0)
        return ((1 - cosine) * regions.share).sum()

    @classmethod
    def check(cls, settings: DistillationSettings, config: TrainConfig) -> None:
        """There must be a teacher, and a start that brings its vectors into the space of the embeddings."""
        if config.teacher is None:
            hint = "make vectors with vice-eval embed ENCODER SHARDS VECTORS --regions LAYER, and give teacher=VECTORS"
            raise InputError("there is no teacher to learn from", where="losses.distillation.weight", hint=hint)
        if config.model.start != "encoder":
            hint = "set it to encoder, which brings the teacher's vectors into the space of the embeddings"
            raise InputError("distillation cannot start at random", where="model.start", hint=hint)
