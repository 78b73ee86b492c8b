"""Swapped prediction (Eq. 3): views predict to which concepts a region was assigned in another view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jaxtyping import Float
from pydantic import Field

from vice.data_specs.errors import InputError
from vice.train.losses.term import LOSSES, LossTerm, RegionBatch, TermSettings

if TYPE_CHECKING:
    from torch import Tensor

    from vice.train.config import TrainConfig


class SwappedPredictionSettings(TermSettings):
    """Cross-entropy of predictions against assignments."""

    weight: float = Field(default=1.0, ge=0)
    """Factor of the term in the loss; 0 leaves it out."""
    sides: Literal["one", "symmetric"] = "one"
    """`one`: views 2 to M predict view 1's assignments (Eq. 3). `symmetric`: every view predicts every other one's."""
    temperature: float = Field(default=0.1, gt=0)
    """τ of the prediction."""


@LOSSES.register("swapped_prediction")
class SwappedPrediction(LossTerm):
    """Cross-entropy, mean over regions, then pictures, then pairs of views; guessing costs ln K."""

    Settings = SwappedPredictionSettings
    needs_assignments = True

    def __call__(self, regions: RegionBatch) -> Float[Tensor, ""]:
        """The term."""
        from vice.train.losses.cross_entropy import one_sided, symmetric

        prediction = regions.scores / self.settings.temperature
        if regions.assigned_for_all:
            return one_sided(prediction, regions.assigned[0], regions.share)
        if self.settings.sides == "symmetric" and len(regions.assigned) > 1:
            return symmetric(prediction, regions.assigned, regions.share)
        return one_sided(prediction[1:], regions.assigned[0], regions.share)

    @classmethod
    def assigned_views(cls, settings: SwappedPredictionSettings, num_views: int) -> int:
        """All of them if every view is predicted."""
        return num_views if settings.sides == "symmetric" else 1

    @classmethod
    def check(cls, settings: SwappedPredictionSettings, config: TrainConfig) -> None:
        """Views must have another view to predict, unless the teacher makes the assignments."""
        if config.views.num_views < 2 and config.assignment.source != "teacher":
            hint = "raise it to 2, or set losses.swapped_prediction.weight=0 or assignment.source=teacher"
            raise InputError("swapped prediction needs two views", where="views.num_views=1", hint=hint)
