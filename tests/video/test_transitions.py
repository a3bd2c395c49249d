"""Dissolves and fades among frames, as the finder sees them: small gray pictures with times."""

import numpy as np
import pytest

from pipeline.video.transitions import MAX_UNEVEN, TransitionFinder
from tests.footage import texture

FPS = 24
OLD, NEW = (texture(seed, 96, 54)[:, :, 0].astype(np.float32) for seed in (1, 2))
BLACK = np.zeros_like(OLD)


def mixed(share: float, old: np.ndarray = OLD, new: np.ndarray = NEW) -> np.ndarray:
    return ((1 - share) * old + share * new).astype(np.uint8)


def shares(length: int, before: int = 30, after: int = 40) -> list[float]:
    return [0.0] * before + [i / length for i in range(length)] + [1.0] * after


def found(pictures: list[np.ndarray], cut: int | None = None) -> list[tuple[int, int]]:
    """Transitions as (first, last) frame; the finder is told of a cut two frames after it, as by the cut detector."""
    finder = TransitionFinder()
    for i, picture in enumerate(pictures):
        finder.push(i / FPS, picture)
        if cut is not None and i == cut + 2:
            finder.cut(cut / FPS)
    return [(round(start_s * FPS), round(end_s * FPS)) for start_s, end_s in finder.found]


@pytest.mark.parametrize("length", [8, 12, 24, 34])
def test_all_of_a_dissolve_is_found_and_little_more(length: int) -> None:
    ((first, last),) = found([mixed(share) for share in shares(length)])
    more = 2 + MAX_UNEVEN * length
    assert 30 - more <= first <= 30
    assert 30 + length <= last <= 30 + length + more


def test_a_fade_through_black_is_one_transition() -> None:
    out = [mixed(i / 12, OLD, BLACK) for i in range(13)]
    pictures = [mixed(0)] * 30 + out + [mixed(i / 12, BLACK, NEW) for i in range(13)] + [mixed(1)] * 40
    ((first, last),) = found(pictures)
    assert first == pytest.approx(30, abs=2)
    assert last == pytest.approx(30 + 26, abs=3)


def test_cuts_flashes_and_stills_are_none() -> None:
    assert found([mixed(0)] * 40 + [mixed(1)] * 40) == []
    assert found([mixed(0)] * 40 + [np.full((54, 96), 250, np.uint8)] * 2 + [mixed(0)] * 40) == []
    assert found([mixed(0)] * 80) == []


def test_a_scene_that_pans_is_none() -> None:
    wide = texture(3, 400, 54)[:, :, 0]
    assert found([np.ascontiguousarray(wide[:, 3 * i : 3 * i + 96]) for i in range(100)]) == []


def test_no_transition_spans_a_cut() -> None:
    pictures = [mixed(share) for share in shares(12)]
    assert [first < 33 < last for first, last in found(pictures)] == [True]
    assert [first < 33 < last for first, last in found(pictures, cut=33)] == [False]


def test_after_a_cut_a_dissolve_is_found_as_ever() -> None:
    pictures = [mixed(0, BLACK + 90)] * 30 + [mixed(share) for share in shares(12, before=10)]
    ((first, last),) = found(pictures, cut=30)
    assert first == pytest.approx(40, abs=2)
    assert last == pytest.approx(52, abs=2)
