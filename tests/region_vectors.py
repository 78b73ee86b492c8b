"""Region vectors for tests, by colour and position: the same steps as `vice-eval embed --regions`."""

from pathlib import Path

from vice.data_specs.results import EncoderRef
from vice.evaluate.embedding.region_vectors import embed_regions, stored_layer, vectors_source
from vice.evaluate.encoders.raw import ColourPositionEncoder
from vice.pipeline.region_vectors import RegionVectors
from vice.pipeline.shards import Shards


def make_vectors(shards: Shards, layer: str, out: Path, *, name: str = "colour and position") -> RegionVectors:
    """Vectors of 5 values (red, green, blue, x, y) of all regions of a layer."""
    ref = EncoderRef(kind="python", name=name, sha256="0" * 64, dim=5, stride=4)
    source = vectors_source(ref, shards, stored_layer(shards, layer), short_side=None, settings={})
    embed_regions(ColourPositionEncoder(), shards, out, source)
    return RegionVectors(out)
