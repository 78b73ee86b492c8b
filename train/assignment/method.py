"""How view 1's regions are assigned to concepts: what the loop asks of any method based on clusters."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from jaxtyping import Bool, Float, Int64
from torch import Tensor


class FirstView(NamedTuple):
    """View 1's regions of some pictures of a step, of this process."""

    embeddings: Float[Tensor, "n r d"]
    """Unit length, without gradient."""
    scores: Float[Tensor, "n r k"]
    """Cosines with the concepts (Eq. 2), without gradient."""
    usable: Bool[Tensor, "n r"]
    """Regions that count, b in all."""
    positions: Int64[Tensor, " n"]
    """Places of the pictures in the order of all steps: step × global batch + place in the batch."""


class Assignment(Protocol):
    """A way of assigning regions to concepts. All processes call every method, at the same steps."""

    learns_concepts: bool
    """Whether the loss's gradient moves the concepts."""

    def begin_step(self, step: int) -> None:
        """Do what must be done before the views of a step are embedded; may set the concepts."""
        ...

    def assign(self, view: FirstView) -> Float[Tensor, "b k"]:
        """Rows that sum to 1, one for each usable region in the order of pictures; once for each part of a step."""
        ...

    def end_step(self) -> None:
        """The step's parts have all been assigned."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that later assignments depend on, of all processes together."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of any number of processes."""
        ...
