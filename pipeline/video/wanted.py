"""How far into a group of pictures the sparse pass decodes for the sake of its clips' pictures (timing: near-key)."""

import math
from collections.abc import Iterator

from pipeline.settings import SplitSettings
from pipeline.video.clips import window_starts
from pipeline.video.gops import anchors, pts_of, waking
from pipeline.video.group import Group
from pipeline.video.measured import TIME_TOLERANCE_S, ClipMaker
from pipeline.video.shots import change, unlike
from pipeline.video.timeline import Timeline

NEAR_KEY_S = 5.0  # no frame of a group that ends with a cut is farther than this from a picture (s)
STILL = 0.6  # less change than this within the first tenth of a second is no sign of motion (levels, 0-255)


class Wanted:
    """All times in seconds since the first frame; first_s and last_s are those of a group's first and last frame."""

    def __init__(self, shots: SplitSettings, maker: ClipMaker, timeline: Timeline):
        self._shots, self._maker, self._timeline = shots, maker, timeline

    def reach_s(self, group: Group, following: Group | None, first_s: float, last_s: float) -> float:
        """Up to when pictures are wanted, as far as the group's beginning and the next key frame tell."""
        if not following or not following.seen:
            return last_s
        if not unlike(group.seen[-1].thumb, following.seen[0].thumb):
            return last_s - 2 * NEAR_KEY_S
        # by as much, a shot shows whether it moves so fast that the next key frame proves nothing (see Endings)
        reach_s = max(last_s - NEAR_KEY_S, first_s + self._maker.stretch_s)
        if change(group.seen[0].thumb, group.seen[-1].thumb) < STILL:  # it may move later
            reach_s = max(reach_s, min((first_s + last_s) / 2, self._wakes_s(group)))
        return min(last_s, reach_s)

    def due(self, shot_s: float, first_s: float, last_s: float, *, ends: bool) -> Iterator[tuple[float, float]]:
        """The clips (start, end) of the shot that the group ends with that must have their pictures now.

        A clip that goes on into the next group, and far enough, gets more there. shot_s: where the shot starts, or a
        clip of it. ends: the shot ends with the group.
        """
        min_s, max_s = self._shots.min_clip_s, self._shots.max_clip_s
        starts = window_starts(shot_s, last_s + TIME_TOLERANCE_S, min_s, max_s, ends=ends)
        for start_s, end_s in zip(starts, [*starts[1:], math.inf], strict=True):
            begins_here = start_s == shot_s > first_s
            # if its shot ends a little after max_s, the clip ends after half of that
            soon = start_s + max_s / 2 < last_s + self._maker.stretch_s
            if end_s > first_s and (ends or begins_here or soon):
                yield start_s, end_s

    def _wakes_s(self, group: Group) -> float:
        """Up to when a group that stands still at first is decoded to see it move (0 for never)."""
        found = anchors(group.own)
        at = waking([group.own[i].size for i in found[1:]], group.own[0].size)
        return 0.0 if at is None else self._timeline.time_s(pts_of(group.own[found[1 + at]])) + self._maker.stretch_s
