"""What a batch of views looks like: sizes, chances and strengths of everything that the loader draws."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from vice.data_specs.regions import MAX_REGIONS_STORED, RegionLayer, grid_cell
from vice.data_specs.validation import StrictModel


class AppearanceSettings(StrictModel):
    """Colour distortion and blur; the defaults are SimCLR's at strength 1, as the paper's authors set them."""

    brightness: float = Field(default=0.8, ge=0, le=1)
    """Brightness is multiplied by 1 ± this."""
    contrast: float = Field(default=0.8, ge=0, le=1)
    """Contrast around mid-grey is multiplied by 1 ± this."""
    saturation: float = Field(default=0.8, ge=0, le=1)
    """Saturation is multiplied by 1 ± this."""
    hue: float = Field(default=0.2, ge=0, le=0.5)
    """Hue is turned by ± this share of the full circle."""
    jitter_probability: float = Field(default=0.8, ge=0, le=1)
    """How often a view's colour is distorted."""
    grey_probability: float = Field(default=0.2, ge=0, le=1)
    """How often a view is made grey."""
    blur_probability: float = Field(default=0.5, ge=0, le=1)
    """How often a view is blurred."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the Gaussian's standard deviation, in view pixels."""

    @field_validator("blur_sigma")
    @classmethod
    def _rising(cls, span: tuple[float, float]) -> tuple[float, float]:
        if not 0 < span[0] <= span[1]:
            raise ValueError("needs 0 < low <= high")
        return span


class ViewSettings(StrictModel):
    """Views of one picture: how many, how large, from where, with which regions (paper, section 3.2)."""

    num_views: int = Field(default=5, ge=1, le=8)
    """Views of each picture (M)."""
    size: int = Field(default=256, ge=32, le=2048, multiple_of=32)
    """Side of a view in pixels, after resizing."""
    resize: tuple[float, float] = (0.5, 2.0)
    """Range of the resize coefficient β: a crop's side is β · `size` picture pixels, at most the shorter side."""
    regions: str = "slic:20"
    """Region layer: one that is stored in the shards (slic:20), or grid:N or pixel, which are numbered on the fly."""
    max_regions: int = Field(default=4096, ge=1, le=MAX_REGIONS_STORED)
    """At most this many mutual regions of a picture are used, drawn by the sample's own counter."""
    min_region_pixels: int = Field(default=1, ge=1)
    """A region must cover this many pixels in every view to count as mutual."""
    flip_probability: float = Field(default=0.5, ge=0, le=1)
    """How often a view is mirrored left to right."""
    mask_share: float = Field(default=0.25, ge=0, le=1)
    """Per view a share drawn from 0 to this of its area is masked, in whole regions; 0 turns masking off."""
    appearance: AppearanceSettings = AppearanceSettings()
    """Colour distortion and blur."""

    @field_validator("resize")
    @classmethod
    def _positive(cls, span: tuple[float, float]) -> tuple[float, float]:
        if not 0 < span[0] <= span[1]:
            raise ValueError("needs 0 < low <= high")
        return span

    @model_validator(mode="after")
    def _layer_is_one(self) -> Self:
        if grid_cell(self.regions) is None:
            RegionLayer.from_text(self.regions)
        return self

    @property
    def region_size(self) -> int:
        """Side of a region in picture pixels, as the layer's name says."""
        return grid_cell(self.regions) or RegionLayer.from_text(self.regions).size
