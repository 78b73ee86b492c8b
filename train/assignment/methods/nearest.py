"""Assignment to the nearest concepts: a softmax of the cosines, sharper than the prediction's, without balancing.

With `assignment.source=teacher` and concepts that start at clusters of the teacher's vectors (`model.start=encoder`)
the assignments are those clusters, and they cannot collapse. From the network itself they can: then optimal transport
(`swav`) is the safer choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from pydantic import Field

from vice.data_specs.validation import StrictModel
from vice.train.assignment.method import METHODS, Method, Views

if TYPE_CHECKING:
    from torch import Tensor


class NearestSettings(StrictModel):
    """Softmax over concepts."""

    temperature: float = Field(default=0.02, gt=0)
    """Of the softmax; towards 0 it is the nearest concept alone."""


@METHODS.register("nearest")
class NearestAssignment(Method):
    """Each region to its nearest concepts."""

    Settings = NearestSettings

    def assign(self, views: Views) -> Float[Tensor, "m b k"]:
        """Softmax of the cosines of the usable regions with the concepts."""
        return (views.scores / self.settings.temperature).softmax(-1)
