"""Find gradual transitions (dissolves, fades) among decoded frames, so that clips can be trimmed of them."""

from collections import deque

import cv2
import numpy as np

SIZE_PX = (24, 14)  # width, height: a dissolve is seen in the large
LONGEST_S = 1.5  # a transition takes at most this long (seconds)
SHORTEST_S = 0.3  # ... and at least this: what is quicker is a cut (seconds)
MAX_GAP_S = 0.25  # frames farther apart than this tell nothing of what is between them (seconds)
STEP_S = 0.08  # only so often is a frame taken for the end of one (seconds)
MIN_INSIDE = 2  # decoded frames between the ends of a transition (count)
MIN_CHANGE = 20.0  # mean difference between its ends (levels, 0-255)
MAX_RESIDUAL = 0.1  # of a frame inside, the squared difference that no mix of the ends explains (fraction of theirs)
MAX_UNEVEN = 0.15  # how far the share of the new picture may be from growing evenly (fraction)
MAX_LIKENESS = 0.8  # correlation of the ends; more alike they are one scene, moved or under another light (-1 to 1)
MAX_UNCLEAN = 0.3  # the more alike the ends are, the cleaner the mix must be: residual over (1 - likeness) (ratio)
MAX_MOVE_PX = (6, 3)  # by how much a scene may have moved between them, in both directions (of SIZE_PX)
FLAT = 8.0  # a picture whose standard deviation is less is plain: the black of a fade (levels, 0-255)


class TransitionFinder:
    """Takes decoded frames in order of time; `found` holds the transitions so far, as [start, end) in seconds.

    In a dissolve each frame is a mix of the picture before and the one after, and the share of the second grows evenly
    from 0 to 1; a fade is a dissolve from or to a plain picture. Few objects or cameras move like that. (The linear
    model of the edit: Hampapur, Jain & Weymouth, ACM Multimedia 1994.) So two frames, up to LONGEST_S apart, are the
    ends of a transition, if all decoded frames between lie evenly on the straight line from one to the other, and the
    two do not show the same, only moved.
    """

    def __init__(self) -> None:
        self.found: deque[tuple[float, float]] = deque()
        self.last_s = -1.0  # the last frame that was taken
        self._times: deque[float] = deque()
        self._pictures: deque[np.ndarray] = deque()
        self._tried_s = -1.0  # the last frame that was taken for an end

    @property
    def settled_s(self) -> float:
        """No transition that is still to be found begins before this (seconds)."""
        return self.last_s - LONGEST_S

    def push(self, time_s: float, gray: np.ndarray) -> None:
        """gray: thumbnail of the frame shown at time_s, uint8 (height, width)."""
        if time_s - self.last_s > MAX_GAP_S:
            self._times.clear()
            self._pictures.clear()
        self.last_s = time_s
        self._forget(time_s - LONGEST_S)
        picture = cv2.resize(gray, SIZE_PX, interpolation=cv2.INTER_AREA).ravel()
        self._times.append(time_s)
        self._pictures.append(picture)
        if time_s < self._tried_s + STEP_S or len(self._times) < MIN_INSIDE + 2:
            return
        if cv2.norm(self._pictures[0], picture, cv2.NORM_L1) > MIN_CHANGE * picture.size:  # seldom so
            self._tried_s = time_s
            self._look_back()

    def cut(self, time_s: float) -> None:
        """A shot starts at time_s (seconds) by a hard cut: no transition spans it."""
        self._forget(time_s)

    def end(self, end_s: float) -> None:
        """The video ends at end_s (seconds): a fade out that its last frame ends goes on until then."""
        if self.found and self.found[-1][1] == self.last_s:
            self.found[-1] = self.found[-1][0], end_s

    def _forget(self, before_s: float) -> None:
        """Frames shown before this (seconds) are no ends of transitions any more."""
        while self._times and self._times[0] < before_s:
            self._times.popleft()
            self._pictures.popleft()

    def _look_back(self) -> None:
        last, end = len(self._times) - 1, self._pictures[-1]
        for start in range(last - MIN_INSIDE):
            if self._times[start] > self.last_s - SHORTEST_S:
                return
            first, middle = self._pictures[start], self._pictures[(start + last) // 2]
            share, residual = _mix(middle, first, end)
            if residual > MAX_RESIDUAL or abs(share - 0.5) > MAX_UNEVEN + 0.1:
                continue
            if cv2.norm(first, end, cv2.NORM_L1) >= MIN_CHANGE * end.size and self._is_transition(start):
                self._add(self._times[start], self.last_s)
                return

    def _is_transition(self, start: int) -> bool:
        """Do the frames from index `start` to the last form one?"""
        start_s, first, last = self._times[start], self._pictures[start], self._pictures[-1]
        most = 0.0
        for i in range(start + 1, len(self._times) - 1):
            share, residual = _mix(self._pictures[i], first, last)
            due = (self._times[i] - start_s) / (self.last_s - start_s)
            if residual > MAX_RESIDUAL or abs(share - due) > MAX_UNEVEN:
                return False
            most = max(most, residual)
        deviations = first.std(), last.std()
        if min(deviations) < FLAT:
            return max(deviations) >= 2 * FLAT
        likeness = _likeness(first, last)
        return likeness <= MAX_LIKENESS and most <= MAX_UNCLEAN * (1 - likeness)

    def _add(self, start_s: float, end_s: float) -> None:
        """One transition is found in several windows, and a fade through black in two that touch."""
        while self.found and self.found[-1][1] >= start_s - MAX_GAP_S:
            start_s = min(start_s, self.found.pop()[0])
        self.found.append((start_s, end_s))


def _likeness(first: np.ndarray, last: np.ndarray) -> float:
    """Correlation (-1 to 1) of the middle of `first` with what is most like it in `last`: a soft scene that moves
    slowly looks like a dissolve of itself."""
    width, height = SIZE_PX
    across, down = MAX_MOVE_PX
    middle = first.reshape(height, width)[down : height - down, across : width - across]
    return float(cv2.matchTemplate(last.reshape(height, width), middle, cv2.TM_CCOEFF_NORMED).max())


def _mix(picture: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[float, float]:
    """How much of `last` is in a picture (share: 0 is `first`), and what is left of it (fraction of their squared
    difference)."""
    whole = max(1.0, cv2.norm(first, last, cv2.NORM_L2SQR))
    new, rest = cv2.norm(first, picture, cv2.NORM_L2SQR), cv2.norm(picture, last, cv2.NORM_L2SQR)
    share = (whole + new - rest) / (2 * whole)  # the law of cosines
    return share, new / whole - share * share
