import random

import cv2
import numpy as np
import pytest

from pipeline.video.frames import MOTION_GAP_S, Sample, Sampler, jpeg, pick

GRAY = np.zeros((72, 128), np.uint8)
PICTURE = np.zeros((4, 4, 3), np.uint8)


def sample(time_s: float) -> Sample:
    return Sample(time_s, lambda: PICTURE, None)


@pytest.mark.parametrize("seed", range(40))
def test_samples_are_bounded_ordered_and_inside_the_span(seed: int) -> None:
    dice = random.Random(seed)
    per_clip, min_s = dice.randint(1, 8), dice.uniform(0.2, 2)
    sampler, made, now, start_s = Sampler(per_clip, min_s, 1000.0), 0, 0.0, 0.0

    def picture() -> np.ndarray:
        nonlocal made
        made += 1
        return PICTURE

    for _ in range(5):
        times = []
        for _ in range(dice.randint(30, 2000)):
            times.append(now)
            sampler.offer(now, GRAY, picture)
            # six for each picture wanted, or as many as it takes for the shortest clip to have two
            assert len(sampler._samples) <= max(6 * per_clip, 4 * (now - start_s) / min_s + 2)
            now += dice.uniform(0.001, 0.1)
        end_s = times[-dice.randint(1, 3)]  # the detector answers two frames late
        taken = sampler.take(start_s, end_s)
        assert taken
        assert all(start_s <= each.time_s < end_s for each in taken)
        assert [each.time_s for each in taken] == sorted({each.time_s for each in taken})
        for each in taken:
            assert each.motion is None or each.time_s - each.motion.gap_s >= start_s - 1e-6
        start_s = end_s
    assert made == 0, "pictures are made of what is picked, and only then"


def test_the_distance_between_samples_is_even() -> None:
    sampler = Sampler(4, 1.0, 60.0)
    for i in range(25 * 60):
        sampler.offer(i / 25, GRAY, lambda: PICTURE)
    gaps = np.diff([each.time_s for each in sampler.take(0, 60)])
    assert gaps.max() <= 1.2 * gaps.min()


def test_motion_compares_frames_a_moment_apart() -> None:
    sampler = Sampler(4, 1.0, 60.0)
    for i in range(100):
        sampler.offer(i / 60, np.full((72, 128), i, np.uint8), lambda: PICTURE)
    pairs = [each.motion for each in sampler.take(0, 10)]
    assert pairs[0] is None
    for pair in pairs[1:]:
        assert pair is not None
        assert MOTION_GAP_S - 1e-9 <= pair.gap_s < MOTION_GAP_S + 1 / 60 + 1e-9
        assert (pair.after[0, 0] - pair.before[0, 0]) / 60 == pytest.approx(pair.gap_s)


def test_motion_at_a_low_frame_rate_compares_neighbours() -> None:
    sampler = Sampler(4, 1.0, 60.0)
    for i in range(5):
        sampler.offer(float(i), GRAY, lambda: PICTURE)
    assert [each.motion and each.motion.gap_s for each in sampler.take(0, 10)] == [None, 1.0, 1.0, 1.0, 1.0]


def test_motion_across_a_cut_is_removed() -> None:
    sampler = Sampler(1, 0.2, 60.0)
    for i in range(20):
        sampler.offer(i / 25, GRAY, lambda: PICTURE)
    sampler.take(0, 0.4)
    first, *rest = sampler.take(0.4, 0.8)
    assert first.motion is None
    assert rest
    assert all(each.motion for each in rest)


def test_what_comes_after_a_span_stays_for_the_next() -> None:
    sampler = Sampler(4, 1.0, 60.0)
    for i in range(50):
        sampler.offer(i / 25, GRAY, lambda: PICTURE)
    before, after = sampler.take(0, 1.0), sampler.take(1.0, 2.0)
    assert [each.time_s for each in before] == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert [each.time_s for each in after] == [1.0, 1.2, 1.4, 1.6, 1.8]
    assert sampler.take(0, 9) == []


def test_a_new_shot_has_its_choice_while_the_last_one_waits_for_its_clip() -> None:
    sampler = Sampler(4, 1.0, 60.0, gaps=True)
    for i in range(240):
        sampler.offer(i / 24, GRAY, lambda: PICTURE)
    for i in range(240, 256):
        sampler.offer(i / 24, GRAY, lambda: PICTURE, new=i == 240)
    assert 4 <= len(sampler.take(0, 10.0)) <= 40
    times_s = [each.time_s for each in sampler.take(10.0, 11.0)]
    assert times_s == pytest.approx([10 + i / 24 for i in (0, 2, 4, 6, 10, 14)]), "the first four are closer"


def test_memory_is_bounded_where_everything_is_new() -> None:
    sampler = Sampler(4, 1.0, 60.0, gaps=True)
    for i in range(480):
        sampler.offer(i / 24, GRAY, lambda: PICTURE, new=True)
        assert len(sampler._samples) <= 4 * 6 * 4 + 1
    gaps = np.diff([each.time_s for each in sampler.take(0, 20)])
    assert gaps.max() <= 2.5 * gaps.min(), "what is thinned out is thinned out evenly"


def test_pick_takes_the_nearest_to_the_middles_of_equal_parts() -> None:
    samples = [sample(i / 10) for i in range(100)]
    assert [each.time_s for each in pick(samples, 4, 0.0, 10.0)] == [1.2, 3.7, 6.2, 8.7]
    assert [each.time_s for each in pick(samples, 1, 2.0, 4.0)] == [3.0]


def test_pick_takes_each_once_and_in_order() -> None:
    assert [each.time_s for each in pick([sample(1.0), sample(1.5)], 8, 0.0, 2.0)] == [1.0, 1.5]
    assert [each.time_s for each in pick([sample(5.0)], 4, 0.0, 20.0)] == [5.0]


def test_jpeg_can_be_read_back() -> None:
    picture = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    back = cv2.imdecode(np.frombuffer(jpeg(picture, 95), np.uint8), cv2.IMREAD_COLOR)
    assert back is not None
    assert back.shape == picture.shape
    assert np.abs(back.astype(int) - picture).max() <= 4
