import numpy as np

from vice.evaluate.atlas.region_embeddings import Regions, unit_length
from vice.evaluate.atlas.typical import OF_ONE_PICTURE, Gatherer


def picture(number: int, count: int) -> Regions:
    draws = np.random.Generator(np.random.Philox(key=number))
    embeddings = unit_length(draws.standard_normal((count, 6), np.float32))
    return Regions(number, None, embeddings, draws.integers(1, 50, count), draws.integers(0, 9, (count, 3)))


def test_examples_usage_and_classes_are_those_of_brute_force():
    concepts = unit_length(np.random.Generator(np.random.Philox(key=99)).standard_normal((5, 6), np.float32))
    pictures = [picture(number, 20) for number in range(12)]
    gatherer = Gatherer(concepts, num_examples=4, num_classes=3)
    for one in pictures:
        gatherer.add(one)
    nearest = [(one.embeddings @ concepts.T).argmax(axis=1) for one in pictures]
    assert gatherer.area.sum() == sum(int(one.areas.sum()) for one in pictures)
    for concept in range(5):
        own = [near == concept for near in nearest]
        assert gatherer.area[concept] == sum(int(one.areas[of].sum()) for one, of in zip(pictures, own, strict=True))
        assert gatherer.num_regions[concept] == sum(int(of.sum()) for of in own)
        counts = sum(one.class_counts[of].sum(axis=0) for one, of in zip(pictures, own, strict=True))
        assert list(gatherer.classes(concept, ["a", "b", "c"]).values()) == sorted(counts / counts.sum(), reverse=True)
        candidates = []
        for one, of in zip(pictures, own, strict=True):
            scored = [(float(one.embeddings[r] @ concepts[concept]), -one.number, int(r)) for r in np.flatnonzero(of)]
            candidates += sorted(scored, reverse=True)[:OF_ONE_PICTURE]
        found = [(example.picture, example.region) for example in gatherer.examples(concept)]
        assert found == [(p, r) for _, p, r in sorted(candidates, reverse=True)[:4]]


def test_a_concept_without_regions_has_no_example():
    gatherer = Gatherer(np.array([[1, 0], [-1, 0]], np.float32), num_examples=3, num_classes=0)
    gatherer.add(Regions(0, None, np.array([[1, 0]], np.float32), np.array([4]), None))
    assert (gatherer.examples(1), gatherer.area.tolist(), gatherer.classes(0, [])) == ([], [4, 0], {})
