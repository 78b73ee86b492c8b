"""`atlas`: concepts with typical regions, and nearest regions, from one pass over the pictures and a look back.

The pass embeds every picture once and keeps numbers alone; only pictures of which something is cut out are read again.
Without concepts of its own (an encoder of others), an encoder's regions are clustered in a pass before that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from vice.data_specs.atlas_entry import Atlas, AtlasRegion, Concept, LookupRegion, RegionLookup
from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint
from vice.evaluate.atlas.choosing import Choice, draw_choice
from vice.evaluate.atlas.cut_outs import cut_out, save_jpeg, side_by_side
from vice.evaluate.atlas.lookup import Pool, lookup_picture
from vice.evaluate.atlas.region_embeddings import Regions, embedded_regions, unit_length
from vice.evaluate.atlas.typical import Gatherer
from vice.evaluate.counters import raw_draws
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.evaluators.kmeans import fit_clusters, library
from vice.evaluate.gallery import FOLDER
from vice.evaluate.options import KMeansSettings, Quota
from vice.evaluate.progress import track
from vice.evaluate.scenes import data_ref
from vice.pipeline.shards import Shards

STRIP_SIDE, SPRITE_SIDE, SPRITE_COLUMNS = 96, 64, 40
"""Sides of cut-outs in pixels: of a concept's examples, and of the pool's regions, which lie in rows of so many."""
CLUSTERED_REGIONS = 100_000
"""Most regions that concepts are clustered from, where an encoder has none: 4 d bytes each."""


NUM_CLUSTERS = 64


class AtlasOptions(NamedTuple):
    """What decides an atlas, beside encoder and pictures."""

    layer: str
    """A stored region layer's name."""
    num_clusters: int = NUM_CLUSTERS
    """Concepts of an encoder that has none of its own."""
    num_examples: int = 8
    """Typical regions of each concept."""
    num_pictures: int = 4
    """Pictures whose regions can be chosen, evenly spaced."""
    seed: int = 0
    """Of the regions that are clustered, of k-means, and of the pool."""
    choices: Sequence[Choice] = ()
    """Regions that are chosen now; their pictures join those whose regions can be chosen."""
    embedding: Mapping[str, Any] = {}
    """How pictures are embedded (tiles), for the record."""

    @property
    def requested(self) -> dict[str, Any]:
        """For the record: what its other settings do not name."""
        choices = [list(choice) for choice in self.choices]
        return {"num_pictures": self.num_pictures, "choices": choices, "pictures": dict(self.embedding)}


def make_atlas(
    encoder: Encoder,
    concepts: Float32[np.ndarray, "k d"] | None,
    shards: Shards,
    *,
    options: AtlasOptions,
    run_dir: Path,
) -> Atlas:
    """Gather examples, write their cut-outs, and return the record.

    Args:
        encoder: embeds every picture once, or twice without concepts.
        concepts: unit vectors that it was trained with, if any.
        shards: with the layer; labels are used where there are any.
        options: everything else.
        run_dir: strips, sprite and pictures go to its folder of pictures.

    Raises:
        InputError: fewer regions than clusters.
        WorkError: a sample cannot be read.
    """
    started = time.perf_counter()
    origin: dict[str, Any] = {"concepts": "of training"}
    if concepts is None:
        concepts, origin = _clustered(encoder, shards, options)
    classes = shards.classes if shards.has_labels else []
    gatherer = Gatherer(concepts, num_examples=options.num_examples, num_classes=len(classes))
    shown = _shown(shards, options)
    pool = Pool(len(shards) - len(shown), seed=options.seed, classes=classes)
    chosen: list[Regions] = []
    for regions in embedded_regions(encoder, shards, options.layer, "regions"):
        gatherer.add(regions)
        if regions.number in shown:
            chosen.append(regions)
        else:
            pool.add(regions)
    ref = data_ref(shards)
    digest = fingerprint({"data": ref.model_dump(), **options._asdict()})[:8]
    folder = f"{FOLDER}/atlas-{ref.dataset}-{ref.split}-{options.layer}-{digest}"
    strips, sprite = _cut_outs(shards, options, gatherer, pool)
    lookup = _lookup(shards, chosen, pool, sprite, run_dir, folder) if pool.entries else None
    for choice in options.choices if pool.entries else ():
        regions = next(one for one in chosen if one.number == choice.number)
        draw_choice(shards, regions, choice, pool, sprite, run_dir / FOLDER)
    return Atlas(
        settings={
            **origin,
            "layer": options.layer,
            "region_embedding": "unit length of the mean over the region of the bilinearly upsampled map",
            "examples": f"{options.num_examples} of each concept by cosine, at most 2 of one picture",
            "usage": "share of the area whose regions' nearest concept it is",
            "pool": {"num_regions": len(pool.entries), "seed": options.seed},
            **options.requested,
        },
        data=ref,
        concepts=_concepts(gatherer, strips, shards, classes, run_dir, folder),
        lookup=lookup,
        seconds=time.perf_counter() - started,
    )


def _shown(shards: Shards, options: AtlasOptions) -> set[int]:
    """Pictures whose regions can be chosen: never all, so that there are others to compare with."""
    count = max(0, min(options.num_pictures, len(shards) - 1))
    evenly = {(2 * i + 1) * len(shards) // (2 * count) for i in range(count)}
    return evenly | {choice.number for choice in options.choices}


def _clustered(
    encoder: Encoder, shards: Shards, options: AtlasOptions
) -> tuple[Float32[np.ndarray, "k d"], dict[str, Any]]:
    """Concepts by spherical k-means of drawn regions, and how they were found."""
    quota = Quota.within(CLUSTERED_REGIONS, len(shards), each=CLUSTERED_REGIONS)
    vectors = []
    for regions in embedded_regions(encoder, shards, options.layer, "regions to cluster"):
        draws = raw_draws(options.seed, "regions", regions.number, len(regions.embeddings))
        vectors.append(regions.embeddings[np.sort(np.argsort(draws, kind="stable")[: quota.of(regions.number)])])
    points = np.concatenate(vectors)
    if options.num_clusters > len(points):
        what = f"{options.num_clusters} clusters asked of {len(points)} regions"
        raise InputError(what, hint="give a smaller --k")
    settings = KMeansSettings(spherical=True)
    clusters = fit_clusters(points, options.num_clusters, settings=settings, seed=options.seed)
    record = {"library": library(), "num_regions": len(points), "seed": options.seed, **settings._asdict()}
    return unit_length(clusters.centroids), {"concepts": "k-means of regions", "kmeans": record}


def _cut_outs(
    shards: Shards, options: AtlasOptions, gatherer: Gatherer, pool: Pool
) -> tuple[dict[tuple[int, int], UInt8[np.ndarray, "s s 3"]], list[UInt8[np.ndarray, "t t 3"]]]:
    """Cut-outs of all examples by (picture, region), and of the pool in its order; each picture is read once."""
    wanted: dict[int, set[int]] = {}
    for concept in range(len(gatherer.area)):
        for example in gatherer.examples(concept):
            wanted.setdefault(-example.picture, set()).add(example.region)
    places: dict[int, list[int]] = {}
    for place, entry in enumerate(pool.entries):
        places.setdefault(entry.number, []).append(place)
    strips: dict[tuple[int, int], np.ndarray] = {}
    sprite: list[np.ndarray] = [np.empty(0)] * len(pool.entries)
    numbers = sorted(wanted.keys() | places.keys())
    for number in track(numbers, "cutting out", total=len(numbers)):
        sample = shards.sample(number, layers=[options.layer])
        regions = sample.regions[options.layer]
        for region in wanted.get(number, ()):
            strips[number, region] = cut_out(sample.picture, regions, region, side=STRIP_SIDE)
        for place in places.get(number, ()):
            sprite[place] = cut_out(sample.picture, regions, pool.entries[place].region, side=SPRITE_SIDE)
    return strips, sprite


def _concepts(
    gatherer: Gatherer,
    strips: dict[tuple[int, int], np.ndarray],
    shards: Shards,
    classes: list[str],
    run_dir: Path,
    folder: str,
) -> list[Concept]:
    total = max(int(gatherer.area.sum()), 1)
    concepts = []
    for number in range(len(gatherer.area)):
        examples = gatherer.examples(number)
        strip = None
        if examples:
            strip = f"{folder}/{number:03d}.jpg"
            cuts = [strips[-example.picture, example.region] for example in examples]
            save_jpeg(run_dir / strip, side_by_side(cuts, columns=8))
        concepts.append(
            Concept(
                number=number,
                usage=float(gatherer.area[number] / total),
                num_regions=int(gatherer.num_regions[number]),
                classes=gatherer.classes(number, classes),
                strip=strip,
                regions=[
                    AtlasRegion(key=shards.keys[-e.picture], region=e.region, similarity=round(e.similarity, 4))
                    for e in examples
                ],
            )
        )
    return concepts


def _lookup(
    shards: Shards,
    chosen: Sequence[Regions],
    pool: Pool,
    sprite: Sequence[np.ndarray],
    run_dir: Path,
    folder: str,
) -> RegionLookup:
    save_jpeg(run_dir / folder / "pool.jpg", side_by_side(sprite, columns=SPRITE_COLUMNS))
    return RegionLookup(
        pictures=[lookup_picture(shards, regions, pool, run_dir, folder) for regions in chosen],
        pool=[LookupRegion(key=shards.keys[one.number], region=one.region, label=one.label) for one in pool.entries],
        sprite=f"{folder}/pool.jpg",
        tile=SPRITE_SIDE,
        columns=SPRITE_COLUMNS,
    )
