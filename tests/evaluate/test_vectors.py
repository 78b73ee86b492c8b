import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vice.data_specs.regions import IGNORE
from vice.evaluate.encoders.raw import STRIDE, ColourPositionEncoder
from vice.evaluate.options import Drawing, Quota
from vice.evaluate.passes import collect
from vice.evaluate.scenes import Scene
from vice.evaluate.vectors import PixelCollector, Vectors, draw_pixels, sample_bilinear


def collected(scenes: list[Scene], encoder, *, num_pixels: int, labelled_only: bool) -> Vectors:
    quota = Quota.within(10**9, 10**3, each=num_pixels)
    collector = PixelCollector(quota=quota, seed=0, labelled_only=labelled_only)
    collect(scenes, [encoder], [collector])
    return collector.vectors()


def scene(number: int, height: int, width: int) -> Scene:
    draws = np.random.Generator(np.random.Philox(key=number))
    labels = draws.integers(0, 3, (height, width)).astype(np.uint16)
    labels[draws.random((height, width)) < 0.5] = IGNORE
    return Scene(number, f"key{number}", draws.integers(0, 256, (height, width, 3)).astype(np.uint8), labels)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (31, 45), (3, 1)])
def test_sampling_equals_upsampling_at_every_pixel(height, width):
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    draws = np.random.Generator(np.random.Philox(key=2))
    embedding = draws.standard_normal((5, rows, columns), np.float32)
    whole = F.interpolate(torch.from_numpy(embedding)[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)
    expected = whole[0, :, :height, :width].reshape(5, -1).T.numpy()
    y, x = np.divmod(np.arange(height * width), width)
    np.testing.assert_allclose(sample_bilinear(embedding, y, x, stride=STRIDE), expected, rtol=0, atol=2e-6)


def test_drawn_pixels_are_distinct_candidates_and_a_function_of_seed_and_picture():
    candidates = np.arange(0, 3000, 3)
    drawn = draw_pixels(candidates, num_pixels=100, seed=0, picture=4)
    assert len(set(drawn.tolist())) == 100
    assert set(drawn.tolist()) <= set(candidates.tolist())
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, draw_pixels(candidates, num_pixels=100, seed=0, picture=4))
    assert set(drawn.tolist()) != set(draw_pixels(candidates, num_pixels=100, seed=1, picture=4).tolist())
    assert set(drawn.tolist()) != set(draw_pixels(candidates, num_pixels=100, seed=0, picture=5).tolist())


def test_drawing_is_even_over_the_candidates():
    times = np.zeros(50, int)
    for picture in range(400):
        times[draw_pixels(np.arange(50), num_pixels=10, seed=0, picture=picture)] += 1
    # binomial(400, 0.2): mean 80, standard deviation 8
    assert abs(times - 80).max() < 5 * 8


def test_fewer_candidates_than_asked_are_all_taken():
    np.testing.assert_array_equal(draw_pixels(np.array([4, 9]), num_pixels=5, seed=0, picture=0), [4, 9])


def test_collected_vectors_carry_their_pixel_s_label_picture_and_embedding():
    pictures = [scene(0, 16, 20), scene(1, 16, 20), scene(2, 12, 8)]
    encoder = ColourPositionEncoder()
    vectors = collected(pictures, encoder, num_pixels=30, labelled_only=True)
    assert IGNORE not in vectors.labels
    assert np.bincount(vectors.scenes).tolist() == [30, 30, 30]
    for each in pictures:
        of_it = vectors.scenes == each.number
        drawn = draw_pixels(
            np.flatnonzero(each.labels.reshape(-1) != IGNORE), num_pixels=30, seed=0, picture=each.number
        )
        np.testing.assert_array_equal(vectors.labels[of_it], each.labels.reshape(-1)[drawn])
        y, x = np.divmod(drawn, each.labels.shape[1])
        expected = sample_bilinear(encoder.embed(each.picture[None])[0], y, x, stride=STRIDE)
        np.testing.assert_array_equal(vectors.embeddings[encoder.name][of_it], expected)


def test_drawing_among_all_pixels_keeps_unlabelled_ones():
    vectors = collected([scene(0, 16, 20)], ColourPositionEncoder(), num_pixels=1000, labelled_only=False)
    assert len(vectors.labels) == 16 * 20
    assert 0.3 < (vectors.labels == IGNORE).mean() < 0.7


def test_the_number_of_vectors_is_bounded():
    drawing = Drawing(pixels_per_picture=500, max_vectors=10_000)
    assert [drawing.quota(count).each for count in (1, 20, 100, 10**6)] == [500, 500, 100, 1]


@pytest.mark.parametrize("num_pictures", [1, 3, 7, 10, 11, 118])
def test_the_limit_is_never_passed_and_the_pictures_that_give_are_spread(num_pictures):
    drawn = [Drawing(500, 10).quota(num_pictures).of(number) for number in range(num_pictures)]
    assert sum(drawn) == 10 // min(num_pictures, 10) * min(num_pictures, 10)
    giving = np.flatnonzero(drawn)
    assert len(giving) == min(num_pictures, 10) and (len(giving) < 2 or np.diff(giving).max() <= num_pictures // 10 + 1)


def test_labels_of_twice_the_size_meet_the_places_in_the_picture():
    whole = scene(0, 16, 24)
    large = whole._replace(labels=whole.labels.repeat(2, axis=0).repeat(2, axis=1))
    vectors = collected([large], ColourPositionEncoder(), num_pixels=10**6, labelled_only=False)
    x = vectors.embeddings["colour + position"][:, 3].reshape(32, 48)
    np.testing.assert_allclose(x[5, 4:-4], (np.arange(48)[4:-4] + 0.5) / 48, atol=1e-6)
