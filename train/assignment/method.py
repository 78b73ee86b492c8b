"""How regions are assigned to concepts: what the trainer asks of a method, and the registry of methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from jaxtyping import Float, Int64

from vice.data_specs.validation import StrictModel
from vice.train.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vice.pipeline.shards import Shards
    from vice.train.config import TrainConfig
    from vice.train.distributed import Process


class Views(NamedTuple):
    """The b regions in the loss of some pictures of a step, of this process, as the assignment's source sees them.

    The source is the network itself, its moving average, or the teacher (whose vectors do not depend on the view: m is
    1). With one-sided prediction only view 1 is given.
    """

    embeddings: Float[Tensor, "m b d"]
    """Unit length, without gradient, in the order of pictures."""
    scores: Float[Tensor, "m b k"]
    """Cosines with the concepts (Eq. 2), without gradient."""
    concepts: Float[Tensor, "k d"]
    """What the scores are cosines with: the model's, its average's, or the clusters of the teacher's vectors."""
    positions: Int64[Tensor, " b"]
    """Position of each region's picture in the order of all steps: step × global batch + index in the batch."""
    ids: Int64[Tensor, " b"]
    """Each region's number among the mutual ones of its picture."""


class RegionsOfStep(NamedTuple):
    """All of view 1's regions of one step, of this process, for methods that look ahead."""

    embeddings: Float[Tensor, "b d"]
    """Unit length, of the network as it is, in evaluation mode."""
    positions: Int64[Tensor, " b"]
    """Position of each region's picture in the order of all steps; those of a picture are adjacent, by id."""


class MethodContext(NamedTuple):
    """What a method is made from."""

    config: TrainConfig
    concepts: nn.Parameter
    """[k, d], the model's own."""
    process: Process
    steps_per_epoch: int
    """The smallest number of steps that shows every picture."""
    regions_of: Callable[[int], Iterator[RegionsOfStep]]
    """The regions of an epoch's steps, from the given one to the end of the epoch or of the run."""


class Method:
    """A way of assigning regions to concepts. All processes call every function, at the same steps.

    Subclasses register themselves with `METHODS.register(NAME)`; `Settings` is their section `assignment.NAME`.
    """

    Settings: ClassVar[type[StrictModel]]
    learns_concepts: ClassVar[bool] = True
    """Whether the loss's gradient moves the concepts."""

    def __init__(self, settings: StrictModel, context: MethodContext):
        self.settings, self.context = settings, context

    def begin_step(self, step: int) -> None:
        """Do what must be done before the views of a step are embedded; may set the concepts."""

    def assign(self, views: Views) -> Float[Tensor, "v b k"]:
        """Rows that sum to 1, one for each usable region in the order of pictures; once for each part of a step.

        v is the number of views given, or 1 where the assignment does not depend on the view.
        """
        raise NotImplementedError

    def end_step(self) -> None:
        """The step's parts have all been assigned."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later assignments depend on, of all processes together."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state of any number of processes."""

    @classmethod
    def check(cls, config: TrainConfig, shards: Shards, *, num_processes: int) -> None:
        """Refuse, before any process starts, settings with which the method cannot work.

        Raises:
            InputError: names the numbers and the settings.
        """

    @classmethod
    def advice_for_few_concepts(cls, settings: StrictModel) -> list[str]:
        """What to try where regions fall into few concepts."""
        return ["lower assignment.num_concepts"]

    @classmethod
    def advice_for_guessing(cls, settings: StrictModel) -> list[str]:
        """What to try where the loss stays at that of guessing."""
        return []


METHODS: Registry[Method] = Registry("assignment method", "vice.train.assignment.methods")
"""By the name that `assignment.method` takes."""
