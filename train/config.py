"""The configuration of a run, as types: every wrong value is told by its dotted path (`config_files` reads them)."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from vice.data_specs.validation import StrictModel
from vice.pipeline.loader.settings import ViewSettings


class ModelConfig(StrictModel):
    """Encoder and decoder."""

    encoder: str = "resnet18"
    """Any of timm's with feature maps by its name, or one of torchvision's as `torchvision/NAME`."""
    weights: str = "none"
    """`none`: random; `packaged`: of the installed extra `weights`; a public checkpoint's name (`default`); a file."""
    output_stride: Literal[8, 16, 32] = 32
    """Picture pixels a cell of the encoder's last map; below 32 its last stages are dilated instead of strided."""
    decoder: Literal["fpn", "deeplabv3plus"] = "fpn"
    """FPN for small views, DeepLabV3+ for large ones (paper, section 4)."""
    decoder_channels: int = Field(default=256, ge=64, multiple_of=64)
    """Width of the decoder."""
    embedding_dim: int = Field(default=128, ge=2)
    """Length of an embedding (D)."""
    centre: bool = False
    """Batch-normalise the decoder's output, so that random weights do not map all content to one direction."""
    activation_checkpointing: bool = False
    """Compute the encoder's activations again for the gradient: less memory, a third more time."""


class AssignmentConfig(StrictModel):
    """Concepts and how regions are assigned to them (paper, section 3.3)."""

    method: Literal["swav", "kmeans"] = "swav"
    """Online by optimal transport (the paper), or offline by k-means before each epoch (DeepCluster, PiCIE)."""
    num_concepts: int = Field(default=128, ge=2)
    """Visual concepts (K)."""
    temperature: float = Field(default=0.1, gt=0)
    """τ of the swapped prediction."""
    epsilon: float = Field(default=0.05, gt=0)
    """Entropy of the optimal transport; smaller is harder."""
    sinkhorn_iterations: int = Field(default=3, ge=1)
    """Sinkhorn-Knopp iterations."""
    queue_length: int = Field(default=5000, ge=0)
    """Embeddings of earlier regions that a process keeps for the assignment; used once full."""
    freeze_concepts_steps: int = Field(default=313, ge=0)
    """Steps at the start in which the concepts do not move."""
    normalize: Literal["pixel", "region"] = "pixel"
    """Unit length before the region mean (`pixel`) or only after it (`region`)."""
    masked_regions: Literal["drop", "keep"] = "drop"
    """Whether a region that is masked in any view leaves the loss."""
    kmeans_iterations: int = Field(default=20, ge=1)
    """Lloyd iterations of each restart of `kmeans`."""
    kmeans_restarts: int = Field(default=3, ge=1)
    """Runs from different first centroids; the best is taken."""
    kmeans_vectors: int = Field(default=200_000, ge=1)
    """Most region embeddings that `kmeans` finds its centroids with; all regions are assigned to them."""


class OptimiserConfig(StrictModel):
    """Optimiser and schedule."""

    name: Literal["lars", "adamw"] = "lars"
    """LARS as the paper, or AdamW."""
    learning_rate: float = Field(default=0.04, gt=0)
    """Peak rate; for LARS it is the rate of 16 pictures a step and scales with the batch."""
    weight_decay: float = Field(default=1e-6, ge=0)
    """Weight decay; biases and norms have none."""
    warmup: float = Field(default=0.02, ge=0, lt=1)
    """Share of the steps in which the rate rises linearly."""
    final: float = Field(default=0.001, ge=0, le=1)
    """The cosine ends at this share of the peak."""


class TrainConfig(StrictModel):
    """A run of `vice-train`."""

    name: str
    """Name of the preset or of the user's configuration."""
    paper: str = ""
    """The paper's row that this is, in words."""
    model: ModelConfig = ModelConfig()
    views: ViewSettings = ViewSettings()
    assignment: AssignmentConfig = AssignmentConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    global_batch: int = Field(default=128, ge=1)
    """Pictures a step, over all processes."""
    epochs: float = Field(default=24, gt=0)
    """Times that each picture is seen."""
    seed: int = Field(default=0, ge=0)
    """Seed of weights, order and views."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of encoder and decoder; assignment and loss are float32 in both."""
    micro_batches: int = Field(default=1, ge=1)
    """Parts in which each process takes its pictures of a step one after another (gradient accumulation)."""
    compile: bool = False
    """Compile encoder and decoder with torch.compile: faster steps after a first one of minutes."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Numbered checkpoints that are kept beside last.pt."""
    log_every: int = Field(default=10, ge=1)
    """Steps between lines of metrics.jsonl; may change."""
    pictures_every: int = Field(default=500, ge=0)
    """Steps between sketches (views, regions, assignments, embeddings; TensorBoard, pictures/); 0: none; may change."""
    reader: Literal["dali", "plain"] = "dali"
    """DALI, or the plain reader where there is none."""
    shuffle_window: int = Field(default=0, ge=0)
    """Shards whose samples are mixed at a time, for shards on slow or remote storage; 0 mixes all samples."""
    cache: str | None = None
    """Folder on a disk of each machine to which whole tars are fetched, ahead where there is a window; may change."""
    cache_gb: float | None = Field(default=None, gt=0)
    """Most that the cache holds, in 10⁹ bytes (what was unused for longest goes); null is no limit; may change."""

    @model_validator(mode="after")
    def _cache_has_a_folder(self) -> Self:
        if self.cache_gb is not None and self.cache is None:
            raise ValueError("cache_gb is of a cache: give its folder as cache")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """What must stay the same as long as a run goes on: all but where tars are cached and what is shown of it."""
        return self.model_dump(mode="json", exclude={"cache", "cache_gb", "log_every", "pictures_every"})

    @property
    def cache_bytes(self) -> int | None:
        """Most that the cache holds, in bytes; None is no limit."""
        return None if self.cache_gb is None else round(self.cache_gb * 1e9)

    @property
    def peak_learning_rate(self) -> float:
        """The rate after warm-up (linear scaling rule for LARS: Goyal et al. 2017)."""
        scale = self.global_batch / 16 if self.optimiser.name == "lars" else 1.0
        return self.optimiser.learning_rate * scale
