"""Records of evaluations with all that a report can show, and small drawn pictures beside them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vice.data_specs.atlas_entry import Atlas, AtlasRegion, Concept, LookupPicture, LookupRegion, RegionLookup
from vice.data_specs.entries import DataRef, Evaluation, LayerBounds, Measure, RegionBounds, Tile
from vice.data_specs.results import EncoderRef, Results, TrainingCurve, write_results
from vice.evaluate.metrics import over_seeds, score

CLASSES = ["Sky & cloud", "Road", "Car"]
COLOURS = {"Sky & cloud": "#0a0b0c", "Road": "#1a1b1c", "Car": "#2a2b2c"}
CONFUSIONS = {
    ("trained", "clean"): [[50, 10, 0], [5, 30, 0], [2, 3, 0]],
    ("trained", "changed light"): [[45, 15, 0], [10, 25, 0], [2, 3, 0]],
    ("untrained", "clean"): [[40, 20, 0], [10, 25, 0], [3, 2, 0]],
    ("untrained", "changed light"): [[20, 40, 0], [20, 15, 0], [3, 2, 0]],
    ("colour + position", "clean"): [[30, 30, 0], [20, 15, 0], [3, 2, 0]],
    ("colour + position", "changed light"): [[10, 50, 0], [30, 5, 0], [5, 0, 0]],
}
REF = DataRef(dataset="tiny", split="val", num_pictures=2, fingerprint="f" * 64)
LOOKUP_SIZE = (20, 30)
"""Height and width of the picture whose regions can be chosen: two regions, left and right."""


def evaluation(
    kind: str, settings: dict, tiles: Sequence[Tile] = (), ref: DataRef = REF, confusions=None
) -> Evaluation:
    encoders: dict = {}
    for (encoder, condition), confusion in (confusions or CONFUSIONS).items():
        encoders.setdefault(encoder, {})[condition] = score(np.array(confusion), CLASSES)
    return Evaluation(
        kind=kind,
        settings=settings,
        train=ref.model_copy(update={"split": "train", "fingerprint": "e" * 64}),
        val=ref,
        encoders=encoders,
        seconds=3,
        tiles=list(tiles),
        colours=COLOURS,
    )


def encoder(name: str = "preset", step: int = 30) -> EncoderRef:
    counts = {"step": step, "num_steps": 40, "num_concepts": 16, "views_seen": 1234}
    shards = {"shards_fingerprint": "e" * 64}
    return EncoderRef(
        kind="checkpoint", name=name, sha256="c" * 64, dim=8, stride=4, weights="random", **counts, **shards
    )


def write_run(folder: Path, *, name="preset", step=30, tiles=(), **changes) -> Results:
    """A run with a linear and a cluster evaluation; `changes` replaces parts of the record."""
    kmeans = {"kmeans": {"num_clusters": 27}, "matching": {"rule": "greedy"}}
    results = Results(
        encoder=encoder(name, step),
        training=TrainingCurve(steps=[10, 20, 30], loss=[2.9, 2.5, 2.4], ln_num_concepts=2.7726),
        versions={"torch": "9.8.7"},
        evaluations={
            "linear": evaluation("linear", {"probe": {"l2": 0.00125}}, tiles),
            "cluster-27 greedy train-fitted": evaluation("cluster", kmeans),
            "cluster-27 hungarian val-fitted": evaluation("cluster", kmeans),
        },
    ).model_copy(update=changes)
    write_results(folder, results)
    return results


def picture(folder: Path, file: str, values: np.ndarray) -> str:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / file), values[..., ::-1])
    return file


def bounds() -> RegionBounds:
    best = score(np.array([[50, 2, 0], [1, 30, 0], [0, 1, 9]]), CLASSES)
    measured = {
        name: Measure(mean=0.5 + number / 100, standard_error=0.004)
        for number, name in enumerate(
            ("boundary_recall", "undersegmentation_error", "achievable_accuracy", "compactness")
        )
    }
    return RegionBounds(
        settings={"tolerance": 2},
        data=REF,
        layers=[
            LayerBounds(layer=layer, regions=Measure(mean=300, standard_error=1), majority=best, best=best, **measured)
            for layer in ("slic20", "grid:20")
        ],
        thickness={"Sky & cloud": 80.5, "Road": 60.0, "Car": 7.25},
        seconds=4,
    )


def atlas(folder: Path) -> Atlas:
    """Two concepts in use and one that is not; a lookup whose left region is nearest to pool 1, the right to pool 0."""
    concepts = [
        Concept(
            number=number,
            usage=usage,
            num_regions=3,
            classes=classes,
            strip=picture(folder, f"pictures/atlas/{number}.jpg", np.full((8, 16, 3), 40 * number + 40, np.uint8)),
            regions=[AtlasRegion(key="a", region=1, similarity=0.9)],
        )
        for number, usage, classes in ((0, 0.25, {"Road": 0.75, "Car": 0.25}), (1, 0.75, {"Sky & cloud": 1.0}))
    ]
    concepts.append(Concept(number=2, usage=0, num_regions=0))
    height, width = LOOKUP_SIZE
    ids = np.zeros((height, width, 3), np.uint8)
    ids[:, width // 2 :, 0], ids[:, width // 2 :, 1] = 1, 0
    sprite = np.zeros((8, 16, 3), np.uint8)
    sprite[:, :8], sprite[:, 8:] = (200, 30, 30), (30, 200, 30)
    lookup = RegionLookup(
        pictures=[
            LookupPicture(
                key="chosen-picture",
                picture=picture(folder, "pictures/lookup/picture.jpg", np.full((height, width, 3), 128, np.uint8)),
                regions=picture(folder, "pictures/lookup/regions.png", ids),
                nearest=[[1, 0], [0, 1]],
                similarity=[[0.91, 0.2], [0.82, 0.1]],
            )
        ],
        pool=[LookupRegion(key="red", region=4, label="Car"), LookupRegion(key="green", region=5, label="Road")],
        sprite=picture(folder, "pictures/lookup/sprite.png", sprite),
        tile=8,
        columns=2,
    )
    return Atlas(settings={"concepts": "training"}, data=REF, concepts=concepts, lookup=lookup, seconds=5)


def full_run(folder: Path, *, name: str = "whole") -> Path:
    """A run directory with everything: several conditions and seeds, neighbours, bounds, atlas, pictures."""
    extra = {
        ("trained", "blur"): [[44, 16, 0], [5, 30, 0], [2, 3, 0]],
        ("untrained", "blur"): [[9, 51, 0], [5, 30, 0], [2, 3, 0]],
    }
    neighbors = evaluation("neighbors", {"vote": {"num_neighbors": 30}}, confusions=CONFUSIONS | extra)
    seeds = {seed: score(np.array(CONFUSIONS["trained", "clean"]) + seed, CLASSES) for seed in (0, 1, 2)}
    neighbors.encoders["trained"]["clean"] = over_seeds(seeds)
    tiles = [
        Tile(
            file=picture(folder, f"pictures/{key}-{light}.png".replace(" ", "_"), np.full((6, 8, 3), 90, np.uint8)),
            key=key,
            condition=light,
            encoder=None,
            shows="picture",
        )
        for key in ("a", "b")
        for light in ("clean", "changed light")
    ]
    written = write_run(folder, name=name, tiles=tiles)
    evaluations = written.evaluations | {"neighbors": neighbors}
    regions, atlases = {"tiny val": bounds()}, {"tiny val slic20": atlas(folder)}
    write_results(
        folder, written.model_copy(update={"evaluations": evaluations, "regions": regions, "atlases": atlases})
    )
    return folder
