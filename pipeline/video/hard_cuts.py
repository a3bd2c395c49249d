"""Where shots start among the decoded frames of a group of pictures (sparse pass)."""

from pipeline.video.group import Group
from pipeline.video.shots import NEIGHBOURS, CutThresholds, change, changes, is_cut, is_flash


def cut_at_key(group: Group, following: Group | None, soon: float, thresholds: CutThresholds) -> bool:
    """Does a shot start with the group's key frame?

    Only if the frame right before it was decoded, or if it is evident without (Endings.evident_cut). soon: up to when
    (ticks) frames are its neighbours.
    """
    if not group.lead or not (group.lead_is_exact or group.evident_cut):
        return False
    nearby = group.seen + (following.seen if following else [])
    after = [seen.thumb for seen in nearby if seen.pts < soon]
    if not group.evident_cut:
        before = changes(group.lead) or [0.0]
        if not is_cut(change(group.lead[-1], after[0]), before, changes(after), thresholds):
            return False
    return not is_flash(group.lead, after)


def cuts_inside(group: Group, times: list[int], thresholds: CutThresholds) -> tuple[set[int], set[int]]:
    """Cuts behind the key frame (ticks), and the frames that must be seen, too, to be sure of others (ticks).

    times: when all the group's frames are shown, decoded or not, in order (ticks).
    """
    position = {pts: i for i, pts in enumerate(times)}
    seen = group.seen
    thumbs = [*group.lead, *(frame.thumb for frame in seen)]
    between = changes(thumbs)  # between[k - 1] is the change to thumbs[k]
    cuts, missing = set(), set()
    for i in range(1, len(seen)):
        k = len(group.lead) + i
        before, after = between[max(0, k - 1 - NEIGHBOURS) : k - 1], between[k : k + NEIGHBOURS]
        if not is_cut(between[k - 1], before, after, thresholds):
            continue
        first, last = position[seen[i - 1].pts], position[seen[i].pts]
        around = set(times[max(0, first - NEIGHBOURS) : last + NEIGHBOURS + 1])
        around = {pts for pts in around if pts <= seen[-1].pts} - {frame.pts for frame in seen}
        if around:
            missing |= around
        elif not is_flash(thumbs[max(0, k - 1 - NEIGHBOURS) : k], thumbs[k : k + 1 + NEIGHBOURS]):
            cuts.add(seen[i].pts)
    return cuts, missing
