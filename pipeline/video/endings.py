"""How groups of pictures end: with a cut at the next key frame, with motion, or only because its time had come."""

from pipeline.video.gops import anchors, are_even, pts_of
from pipeline.video.group import Group
from pipeline.video.shots import (
    NEIGHBOURS,
    UNLIKE_CHANGE,
    UNLIKE_COLOURS,
    CutThresholds,
    change,
    changes,
    colour_distance,
    is_cut,
    unlike,
)

IRREGULAR = 0.9  # a group shorter than this fraction of the longest so far was ended by the encoder for a reason
DUE_FRAMES = 5  # ... and one that is no more than this shorter was not: its next key frame was due (count)
SEVERAL = 3  # so many cuts at early key frames tell that the encoder looks for cuts, so many groups what is due (count)
UNLIKE_COLOURS_ON_GRID = 0.3  # in place of UNLIKE_COLOURS where the next key frame came when due: hardly by a cut
EVIDENT_COLOURS = 0.35  # ... and from here on, with other evidence, for two shots
EVIDENT_BYTES = 1.5  # ... with no packet before it this many times as large as the key frame's (ratio)
FAST = 10.0  # what changes by more than this from frame to frame may show anything a second later (levels, 0-255)
DARK = 60.0  # the colours of frames darker than this tell little: fades look like cuts there (mean value, 0-255)


class Endings:
    """What the pictures at both ends of a group, its packets' sizes, and the lengths of the groups so far tell of why
    the encoder ended it there."""

    def __init__(self, thresholds: CutThresholds) -> None:
        self._thresholds = thresholds
        self._longest = 0  # packets in the longest group so far
        self._num_longest = 0  # groups so far that are as long: if there are several, their key frames were due
        self._evident_cuts = 0  # cuts so far of which the encoder told

    def push(self, group: Group) -> None:
        """The next group."""
        length = len(group.own)
        self._num_longest = 0 if length > self._longest + DUE_FRAMES else self._num_longest
        self._longest = max(self._longest, length)
        self._num_longest += length >= self._longest - DUE_FRAMES

    def unlike(self, group: Group, following: Group) -> bool:
        """Does the next key frame look like another shot than what was decoded of the group?"""
        if not following.seen:
            return False
        colours = UNLIKE_COLOURS if self._ended_early(group) else UNLIKE_COLOURS_ON_GRID
        return unlike(group.seen[-1].thumb, following.seen[0].thumb, colours)

    def only_moves(self, group: Group) -> bool:
        """Is a group that ends with another picture than it began with one shot nevertheless, by its packets' sizes?

        So it is if an encoder that looks for cuts ended it without having found one, and its packets are even.
        """
        looks_for_cuts = self._evident_cuts >= SEVERAL
        is_due = self._num_longest >= SEVERAL and len(group.own) >= self._longest - DUE_FRAMES
        return looks_for_cuts and is_due and are_even([group.own[i].size for i in anchors(group.own)[1:]])

    def evident_cut(self, group: Group, following: Group) -> bool:
        """Is the cut at the next key frame sure without the frames right before it?

        An encoder that ends a group early, when the packets before cost next to nothing by comparison, has found a cut:
        with the old shot still going on, and the new one going on after its first frame (so that it is no flash). In an
        open GOP it has found one, too, but the packets shown before the key frame may be of the new shot already.
        """
        found = self._ended_early(group) and not following.gop.leading and self._is_evident(group, following)
        self._evident_cuts += found
        return found

    def _ended_early(self, group: Group) -> bool:
        """Did the encoder end the group for a reason?"""
        return len(group.own) < IRREGULAR * self._longest

    def _is_evident(self, group: Group, following: Group) -> bool:
        last, key = group.seen[-1], following.seen[0]
        colours = colour_distance(last.thumb, key.thumb)
        largest = max((packet.size for packet in group.own if pts_of(packet) > last.pts), default=0)
        if colours < EVIDENT_COLOURS or largest >= EVIDENT_BYTES * following.own[0].size:
            return False
        if min(last.thumb[:, :, 2].mean(), key.thumb[:, :, 2].mean()) < DARK:
            return False
        if any(change(last.thumb, seen.thumb) < UNLIKE_CHANGE for seen in following.seen):
            return False
        if max(changes([seen.thumb for seen in group.seen])[-NEIGHBOURS:], default=0.0) > FAST:
            return False
        after = changes([seen.thumb for seen in following.seen])[:NEIGHBOURS] or [0.0]
        return is_cut(change(last.thumb, key.thumb), [], after, self._thresholds)
