"""The configuration of a run, as types: every wrong value is told by its dotted path (`config_files` reads them)."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, create_model, field_validator, model_validator

from vice.data_specs.errors import InputError
from vice.data_specs.validation import StrictModel
from vice.pipeline.loader.settings import ViewSettings
from vice.train.assignment.method import METHODS
from vice.train.losses.term import LOSSES, TermSettings

RATES = {"lars": 0.04, "adamw": 0.001}
"""Default learning rate of each optimiser."""
WEIGHT_DECAYS = {"lars": 1e-6, "adamw": 0.01}
"""Default weight decay of each optimiser."""


GIVE_TEACHER = "make vectors with vice-eval embed ENCODER SHARDS VECTORS --regions LAYER, and give teacher=VECTORS"
"""What to do where a teacher is missing."""


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
    start: Literal["random", "encoder"] = "random"
    """`encoder`: at step 0 the embedding is a linear map of the encoder's standardised maps, fitted to the teacher's
    vectors or, without a teacher, their principal components; the decoder's part starts at zero."""
    whitening: float = Field(default=0.0, ge=-1, le=1)
    """How far the variances of the principal components that a run starts from are evened out: 0 leaves them, 1 makes
    all equal (favours linear probes), and below 0 the main ones count more (favours clusters and neighbours)."""
    frozen_levels: int = Field(default=0, ge=0, le=3)
    """Maps of the encoder, the finest first, whose weights stay as they came: faster steps."""
    freeze_batch_norm: bool = False
    """Keep the encoder's batch norms at the statistics that its weights came with."""
    activation_checkpointing: bool = False
    """Compute the encoder's activations again for the gradient: less memory, a third more time."""

    @model_validator(mode="after")
    def _start_is_kept(self) -> Self:
        if self.start == "encoder" and self.centre:
            raise ValueError("'model.centre' would undo 'model.start=encoder': set one of them")
        return self


class _Assignment(StrictModel):
    """Concepts and how regions are assigned to them (paper, section 3.3); each method has a section of its own."""

    method: str = "swav"
    """Online by optimal transport (`swav`, the paper), or another of `assignment/methods/` by its name."""
    source: Literal["student", "ema", "teacher"] = "student"
    """Whose region embeddings are assigned: the network's own, its moving average's (ema_decay), or the teacher's."""
    num_concepts: int = Field(default=128, ge=2)
    """Visual concepts (K)."""
    freeze_concepts_steps: int = Field(default=313, ge=0)
    """Steps at the start in which the concepts do not move."""
    normalize: Literal["pixel", "region"] = "pixel"
    """Unit length before the region mean (`pixel`) or only after it (`region`)."""
    masked_regions: Literal["drop", "keep"] = "drop"
    """Whether a region that is masked in any view leaves the loss."""

    @field_validator("method")
    @classmethod
    def _is_registered(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(f"no assignment method is called {name!r} (choices: {', '.join(METHODS)})")
        return name


METHODS.load()
LOSSES.load()
AssignmentConfig = create_model("AssignmentConfig", __base__=_Assignment, **METHODS.sections())
"""`_Assignment` with a section for each registered method."""
LossesConfig = create_model("LossesConfig", __base__=StrictModel, **LOSSES.sections())
"""A section for each registered loss term."""


class OptimiserConfig(StrictModel):
    """Optimiser and schedule."""

    name: Literal["lars", "adamw"] = "lars"
    """LARS as the paper, or AdamW."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate; null: 0.04 for LARS (the rate of 16 pictures a step, it scales with the batch), 0.001 for AdamW."""
    encoder_factor: float = Field(default=1.0, gt=0, le=1)
    """The encoder's rate as a factor of the others', for an encoder that already knows something."""
    freeze_encoder_steps: int = Field(default=0, ge=0)
    """Steps at the start in which the encoder does not move."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Weight decay of matrices; null: 1e-6 for LARS, 0.01 for AdamW. Biases, norms and concepts have none."""
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
    losses: LossesConfig = LossesConfig()
    teacher: str | None = None
    """Region vectors of a teacher for these shards: a folder of `vice-eval embed --regions`; may move."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decay a step of a moving average of the weights, for assignment.source=ema; 0 keeps none."""
    optimiser: OptimiserConfig = OptimiserConfig()
    global_batch: int = Field(default=128, ge=1)
    """Pictures a step, over all processes."""
    epochs: float = Field(default=24, gt=0)
    """Times that each picture is seen."""
    seed: int = Field(default=0, ge=0)
    """Seed of weights, order and views."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Arithmetic of encoder and decoder; assignment and loss are float32. `auto`: bf16 where the hardware has it."""
    micro_batches: int = Field(default=1, ge=1)
    """Parts in which each process takes its pictures of a step one after another (gradient accumulation)."""
    compile: bool = False
    """Compile encoder and decoder with torch.compile: faster steps after a first one of minutes."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between checkpoints; may change."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Numbered checkpoints that are kept in addition to last.pt; may change."""
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

    @model_validator(mode="after")
    def _some_term_counts(self) -> Self:
        if not any(section.weight > 0 for section in self.loss_sections.values()):
            raise ValueError(f"'losses': every weight is 0; raise one of {', '.join(LOSSES)}")
        return self

    def check_terms(self) -> None:
        """Refuse loss terms and a source of assignments that lack what they need; presets may leave a teacher open.

        Raises:
            InputError: names the setting.
        """
        for name, section in self.loss_sections.items():
            if section.weight > 0:
                LOSSES[name].check(section, self)
        source = self.assignment.source
        if not self.assigns or source == "student":
            return
        where = f"assignment.source={source}"
        if source == "ema" and not self.ema_decay:
            raise InputError("no moving average is kept", where=where, hint="set ema_decay, as in ema_decay=0.996")
        if source == "teacher" and self.teacher is None:
            raise InputError("there is no teacher", where=where, hint=GIVE_TEACHER)
        if source == "teacher" and self.model.start != "encoder":
            what = "concepts are fitted to the teacher's vectors only where a run starts from its encoder"
            raise InputError(what, where=where, hint="set model.start=encoder")

    @property
    def identity(self) -> dict[str, Any]:
        """What must stay the same for a run to resume: all but where data lie and what is shown and kept of the run."""
        may_change = {
            "cache",
            "cache_gb",
            "log_every",
            "pictures_every",
            "checkpoint_every",
            "keep_checkpoints",
            "teacher",
        }
        return self.model_dump(mode="json", exclude=may_change)

    @property
    def loss_sections(self) -> dict[str, TermSettings]:
        """Every loss term's settings by its name."""
        return {name: getattr(self.losses, name) for name in LOSSES}

    @property
    def assigns(self) -> bool:
        """Whether any active loss term needs assignments."""
        return any(LOSSES[name].needs_assignments for name, of in self.loss_sections.items() if of.weight > 0)

    @property
    def assigned_views(self) -> int:
        """Views whose regions are assigned in each step."""
        if self.assignment.source == "teacher":
            return 1
        active = {name: of for name, of in self.loss_sections.items() if of.weight > 0}
        return max(LOSSES[name].assigned_views(of, self.views.num_views) for name, of in active.items())

    @property
    def cache_bytes(self) -> int | None:
        """Most that the cache holds, in bytes; None is no limit."""
        return None if self.cache_gb is None else round(self.cache_gb * 1e9)

    @property
    def peak_learning_rate(self) -> float:
        """The rate after warm-up (linear scaling rule for LARS: Goyal et al. 2017)."""
        scale = self.global_batch / 16 if self.optimiser.name == "lars" else 1.0
        return (self.optimiser.learning_rate or RATES[self.optimiser.name]) * scale

    @property
    def weight_decay(self) -> float:
        """Of the optimiser, or its default."""
        chosen = self.optimiser.weight_decay
        return WEIGHT_DECAYS[self.optimiser.name] if chosen is None else chosen
