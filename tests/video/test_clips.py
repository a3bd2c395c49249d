import random

import pytest

from pipeline.video.clips import Span, Windower, window_starts


def spans_of(times: list[float], cuts: set[int], end_s: float, min_s: float, max_s: float) -> list[Span]:
    windower = Windower(min_s, max_s)
    spans: list[Span] = []
    for i, time_s in enumerate(times):
        spans += windower.push(time_s, i in cuts)
    return spans + windower.flush(end_s)


def shots_of(times: list[float], cuts: set[int], end_s: float) -> list[tuple[float, float]]:
    starts = [time_s for i, time_s in enumerate(times) if i == 0 or i in cuts]
    return list(zip(starts, [*starts[1:], end_s], strict=True))


def check(times: list[float], cuts: set[int], end_s: float, min_s: float, max_s: float, *, coarse: bool) -> None:
    """The promises of Windower. coarse: frames may be so far apart that no window can be cut well."""
    spans = spans_of(times, cuts, end_s, min_s, max_s)
    assert [span.start_s for span in spans] == [times[0], *(span.end_s for span in spans[:-1])]  # tiles, exactly
    assert spans[-1].end_s == end_s
    assert all(span.start_s in times for span in spans)  # at frame boundaries
    for span in spans:
        assert span.num_frames == sum(span.start_s <= time_s < span.end_s for time_s in times)
        assert span.num_frames >= 1
        assert span.end_s - span.start_s <= max_s or span.num_frames == 1
    shots = shots_of(times, cuts, end_s)
    for start_s, stop_s in shots:
        inside = [span for span in spans if start_s <= span.start_s < stop_s]
        assert inside[0].start_s == start_s  # no span reaches over a cut
        assert inside[-1].end_s == stop_s
        if stop_s - start_s <= max_s:
            assert len(inside) == 1  # a shot that fits is one clip
        elif not coarse:
            assert min(span.end_s - span.start_s for span in inside) >= min_s - 1e-9


@pytest.mark.parametrize("seed", range(300))
def test_the_promises_hold_for_any_video(seed: int) -> None:
    """Frames of any rate and jitter; windows have room when min is at most half of max less a frame."""
    dice = random.Random(seed)
    max_s = dice.uniform(2, 20)
    gap_s = dice.uniform(0.01, max_s / 10)
    min_s = dice.uniform(gap_s, max_s / 2 - gap_s)
    times, now = [], dice.choice([0.0, dice.uniform(0, 5)])
    for _ in range(dice.randint(1, 300)):
        times.append(now)
        now += dice.uniform(0.1, 1) * gap_s
    cuts = {i for i in range(1, len(times)) if dice.random() < dice.choice([0, 0.01, 0.2])}
    check(times, cuts, now, min_s, max_s, coarse=False)


@pytest.mark.parametrize("seed", range(150))
def test_slide_shows_tile_too(seed: int) -> None:
    """Frames that are shown for longer than a clip may be; min up to max."""
    dice = random.Random(seed)
    max_s = dice.uniform(1, 10)
    times, now = [], 0.0
    for _ in range(dice.randint(1, 40)):
        times.append(now)
        now += dice.choice([0.04, dice.uniform(0.01, 2), dice.uniform(0.01, 3 * max_s)])
    cuts = {i for i in range(1, len(times)) if dice.random() < 0.2}
    check(times, cuts, now, dice.uniform(0.01, max_s), max_s, coarse=True)


def test_a_shot_of_exactly_the_maximum_is_one_clip() -> None:
    times = [i / 25 for i in range(250)]
    assert spans_of(times, set(), 10.0, 1.0, 10.0) == [Span(0.0, 10.0, 250)]


def test_a_rest_shorter_than_the_minimum_shares_with_the_window_before() -> None:
    times = [i / 10 for i in range(105)]
    assert spans_of(times, set(), 10.5, 2.0, 10.0) == [Span(0.0, 5.2, 52), Span(5.2, 10.5, 53)]


def test_a_long_shot_is_windowed_while_it_goes_on() -> None:
    windower = Windower(1.0, 4.0)
    spans, held = [], 0
    for i in range(10_000):
        spans += windower.push(i / 10, False)
        held = max(held, len(windower._times))
    assert [span.end_s for span in spans[:3]] == [4.0, 8.0, 12.0]
    assert held <= 52  # the frame times of max + min seconds, however long the shot


def test_an_unfinished_video_without_frames_has_no_spans() -> None:
    assert Windower(1.0, 4.0).flush(0.0) == []


def test_a_few_long_frames_are_shared_out_where_that_keeps_windows_from_being_too_short() -> None:
    assert spans_of([0.0, 0.1, 9.0], set(), 12.0, 3.0, 10.0) == [Span(0.0, 9.0, 2), Span(9.0, 12.0, 1)]


@pytest.mark.parametrize("end_s", [0.5, 1.0, 19.9, 20.1, 20.5, 21.1, 40.0, 40.6, 59.0, 60.96, 63.0])
@pytest.mark.parametrize("start_s", [0.0, 7.0])
def test_window_starts_tells_beforehand_where_the_clips_of_a_shot_start(start_s: float, end_s: float) -> None:
    times = [i / 25 for i in range(round((start_s + end_s) * 25))]
    spans = spans_of(times, {round(start_s * 25)}, start_s + end_s, 1.0, 20.0)
    starts = [span.start_s for span in spans if span.start_s >= start_s]
    told = window_starts(start_s, start_s + end_s, 1.0, 20.0, ends=True)
    assert told == pytest.approx(starts, abs=0.041)
    on = window_starts(start_s, start_s + end_s, 1.0, 20.0, ends=False)  # it may go on
    assert on[:-1] == pytest.approx(told[:-1]) or on == pytest.approx(told)
