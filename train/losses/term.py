"""What the trainer asks of a loss term, and the registry of terms. The loss is their sum by `losses.NAME.weight`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from jaxtyping import Float
from pydantic import Field

from vice.data_specs.validation import StrictModel
from vice.train.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from vice.train.config import TrainConfig


class RegionBatch(NamedTuple):
    """The regions of some pictures of a step, of this process."""

    embeddings: Float[Tensor, "m b d"]
    """Of the usable regions in every view, in the order of pictures; unit length, with gradient."""
    scores: Float[Tensor, "m b k"]
    """Their cosines with the concepts (Eq. 2), with gradient."""
    share: Float[Tensor, " b"]
    """Weight of each region, so that a sum over regions is the mean over regions, then over all pictures (Eq. 3)."""
    assigned: Float[Tensor, "v b k"] | None
    """Their assignments by view (v = m), or the same for all views (v = 1); None where no term needs any."""
    assigned_for_all: bool
    """Whether the assignments say nothing of a single view, so that every view can predict them."""
    teacher: Float[Tensor, "b d"] | None
    """The teacher's vectors in the space of the embeddings, unit length; None without a teacher."""


class TermSettings(StrictModel):
    """What every section has."""

    weight: float = Field(default=0.0, ge=0)
    """Factor of the term in the loss; 0 leaves it out."""


class LossTerm:
    """A term of the loss: a pure function of a step's regions.

    Subclasses register themselves with `LOSSES.register(NAME)`; `Settings` is their section `losses.NAME`.
    """

    Settings: ClassVar[type[TermSettings]]
    needs_assignments: ClassVar[bool] = False

    def __init__(self, settings: TermSettings):
        self.settings = settings

    def __call__(self, regions: RegionBatch) -> Float[Tensor, ""]:
        """The term, without its weight; a step's parts and processes add up to the whole."""
        raise NotImplementedError

    @classmethod
    def assigned_views(cls, settings: TermSettings, num_views: int) -> int:
        """Of how many views it needs the assignments: view 1's, or all."""
        return 1

    @classmethod
    def check(cls, settings: TermSettings, config: TrainConfig) -> None:
        """Refuse settings with which the term cannot work; asked only where its weight is above 0.

        Raises:
            InputError: names the settings.
        """


LOSSES: Registry[LossTerm] = Registry("loss term", "vice.train.losses.terms")
"""By the name of their section."""
