"""The sparse pass: decode key frames, and further into a group of pictures only where a cut may hide.

What is always decoded: each key frame and the tenth of a second after it (for motion, and to tell a cut from a flash).
A group is decoded further
- up to its last packet whose size says that it may start a shot (gops.suspects);
- as far as the pictures need it (FrameSettings.timing);
- to its end when the next key frame looks like another shot and nothing explains it: neither a cut that the encoder
  tells of, nor motion (a group that ended when due, with packets of even sizes);
- half a second or so into a shot that starts in it, for its pictures.
On the way, frames that no other frame refers to are left out, except around suspects. So every hard cut is placed on
consecutive frames, by the same rule as in the dense pass; the one exception is Endings.evident_cut. Packets are read in
file order and kept until their group is done with: no seeking, and no index is needed. Dissolves and fades are found
among what is decoded (transitions.py), and a group that one makes end with another picture is decoded to its end, as
above. Damage is seen only in what is decoded. Not all that is decoded is looked at: of two frames that come one soon
after the other, the first waits for the second, and is left out if that shows the same as the one before both.

VP9 and AV1 are decoded densely: their decoders cannot leave frames out, and their encoders spend bytes on a frame now
and then for the sake of later ones, so that nearly every group has a suspect near its end.
"""

from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np

from pipeline.settings import FrameSettings, SplitSettings
from pipeline.video.decode import MAX_DAMAGED_PACKETS, VideoReader
from pipeline.video.endings import Endings
from pipeline.video.frames import MOTION_GAP_S
from pipeline.video.gop_decoder import DROPS_NON_REFERENCE, GopDecoder
from pipeline.video.gops import Gop, Suspicion, anchors, leading_of, pts_of, read_gops, shown_pts, suspects
from pipeline.video.group import Group, Seen
from pipeline.video.hard_cuts import cut_at_key, cuts_inside
from pipeline.video.images import Images
from pipeline.video.measured import Clip, ClipMaker
from pipeline.video.shots import NEIGHBOURS, SAME, CutDetector, CutThresholds, change
from pipeline.video.timeline import Timeline
from pipeline.video.wanted import Wanted

PROBE_PACKETS = 48  # the first packets, by which a video is found fit for this pass
MAX_KEY_SHARE = 0.25  # with more key frames than this among them there is too little to leave out (fraction)
LOOK_AGAIN_S = 0.5  # so often the way to the end of a group is looked at whether it leads to the next key frame (s)
SAVING_S = 0.3  # encoders spend next to nothing on frames that are no use to later ones: those this near the end (s)
NEAR_S = 0.1  # a frame this near to the one before waits for the next, and is left out if those two are the same (s)


def sparse_clips(
    source: str | BinaryIO, reader: VideoReader, maker: ClipMaker, shots: SplitSettings, frames: FrameSettings
) -> Iterator[Clip] | None:
    """The clips of a video by the sparse pass, or None where it does not pay or cannot be right: the caller then
    decodes densely (what was looked at here is still to come from the reader)."""
    first = reader.peek(PROBE_PACKETS)
    if not first or not first[0].is_keyframe or reader.info.video_codec not in DROPS_NON_REFERENCE:
        return None
    times = [packet.pts for packet in first]
    if None in times or len(set(times)) < len(times):
        return None
    if sum(packet.is_keyframe for packet in first) > max(1, MAX_KEY_SHARE * len(first)):
        return None
    return _SparsePass(source, reader, maker, shots, frames).clips()


class _SparsePass:
    """The state of one pass. Two decoders take turns, so that the next key frame can be looked at while the group
    before it can still be decoded further."""

    def __init__(
        self, source: str | BinaryIO, reader: VideoReader, maker: ClipMaker, shots: SplitSettings, frames: FrameSettings
    ):
        self._reader, self._maker = reader, maker
        self._thresholds = CutThresholds(shots.min_change, shots.min_change_ratio)
        self._same = SAME * shots.min_change
        self._images = Images(frames.max_side_px, decodes_all=False)
        self._exact = frames.timing == "exact"
        self._decoders = deque([GopDecoder(reader.decoder), GopDecoder(reader.second_decoder(source))])
        if not self._exact:
            for decoder in self._decoders:
                decoder.skip_loop_filter()
        self._timeline = Timeline(reader, maker, CutDetector(self._thresholds))
        self._wanted = Wanted(shots, maker, self._timeline)
        self._turns: int | None = None
        self._one_decoder = False  # from here on, no group can be decoded but by the decoder of the one before
        self._sampled_s = -1.0  # the last frame offered as a picture
        self._last_thumb: np.ndarray | None = None  # of that frame
        self._undecodable = 0  # packets since the last frame came
        self._endings = Endings(self._thresholds)

    def clips(self) -> Iterator[Clip]:
        group: Group | None = None
        for gop in read_gops(self._reader.packets()):
            following = self._open(gop, group)
            if group:
                yield from self._close(group, following)
            group = following
            if max(decoder.damaged_packets for decoder in self._decoders) > MAX_DAMAGED_PACKETS:
                self._reader.ended_early = "decoding stopped: too many damaged packets in a row"
                break
        if group:
            yield from self._close(group, None)
        self._reader.undecodable_end(self._undecodable)
        yield from self._timeline.finish()

    def _open(self, gop: Gop, before: Group | None) -> Group:
        """Decode the key frame and what follows it within MOTION_GAP_S."""
        new_headers = any(packet.has_sidedata("new_extradata") for packet in gop.packets)
        self._one_decoder = self._one_decoder or (new_headers and before is not None)
        if before and (gop.continues or self._one_decoder):
            return self._go_on(gop, before)
        self._decoders.rotate()
        group = Group(gop, self._decoders[0], gop.own)
        group.decoder.start(group.own)
        # should the key frame be compared with the frame before it, those after it must be the very next ones, too
        group.whole.update(sorted(pts_of(packet) for packet in group.own)[: NEIGHBOURS + 1])
        enough = gop.key_pts + MOTION_GAP_S / self._reader.tick_s
        latest = gop.key_pts
        while not group.decoder.exhausted and (len(group.seen) < 2 or latest < enough):
            latest = max(latest, pts_of(group.own[group.decoder.next]))
            self._feed(group)
            if len(group.seen) > NEIGHBOURS and len(group.seen) >= self._images.num_held(group.seen[0].image):
                break
        if group.decoder.exhausted and not group.seen:
            self._drain(group)
        if before and not group.decoder.any_damage and not (group.seen and group.seen[0].pts == gop.key_pts):
            self._one_decoder = True  # it is no key frame, but a point of periodic intra refresh, say
            return self._go_on(gop, before)
        self._endings.push(group)
        return group

    def _go_on(self, gop: Gop, before: Group) -> Group:
        """A group that only the decoder of the one before can decode, once that is done: both are decoded whole."""
        before.gop.continued = gop.continues = True
        return Group(gop, before.decoder, gop.packets)

    def _mark_suspects(self, group: Group, following: Group | None) -> None:
        found = anchors(group.own)
        key_bytes = group.own[0].size
        next_key_bytes = following.own[0].size if following else key_bytes
        saving = group.before - SAVING_S / self._reader.tick_s
        answers = suspects(
            [group.own[i].size for i in found[1:]],
            key_bytes,
            next_key_bytes,
            alike=following is not None and bool(following.seen) and not self._endings.unlike(group, following),
            tail=sum(pts_of(group.own[i]) > saving for i in found[1:]),
        )
        times = sorted(pts_of(packet) for packet in group.own)
        position = {pts: i for i, pts in enumerate(times)}
        for before, anchor, suspicion in zip(found, found[1:], answers, strict=False):
            first = position[pts_of(group.own[before])] - NEIGHBOURS
            last = position[pts_of(group.own[anchor])] + NEIGHBOURS
            if suspicion:
                group.reach = times[min(last, len(times) - 1)]
            if suspicion is Suspicion.LIKELY:
                group.whole.update(times[max(0, first) : last + 1])
                # if it is a cut, the new shot wants its motion measured
                group.reach = max(group.reach, pts_of(group.own[anchor]) + self._timeline.ticks_in(MOTION_GAP_S))

    def _close(self, group: Group, following: Group | None) -> Iterator[Clip]:
        """Decode the group as far as it takes; then all its frames, seen or not, go on the timeline."""
        times = shown_pts(group.gop, following.gop if following else None)
        if following and not (following.gop.continues or following.gop.jumps):
            group.before = following.gop.key_pts
        if not self._is_plain(group, following, times):
            yield from self._close_whole(group, following)
            return
        self._timeline.enter(times[0])
        if self._timeline.has_gap:
            self._maker.skip()
        group.closing = True
        for seen in group.seen:
            self._sample(seen)
        cuts = self._decode(group, following, times)
        starts = self._starts_shot(group, following)
        if group.decoder.any_damage or cuts is None:
            yield from self._close_whole(group, following)
            return
        if self._undecodable:
            self._maker.damaged(self._timeline.time_s(times[0]))
            self._undecodable = 0
        thumbs = {seen.pts: seen.thumb for seen in group.seen}
        packets = [*group.own, *(following.gop.leading if following else [])]
        durations = {pts_of(packet): packet.duration or 0 for packet in packets}
        for pts in times:
            starts_shot = (None if group.after_whole else starts) if pts == times[0] else pts in cuts
            yield from self._timeline.show(self._timeline.time_s(pts), thumbs.get(pts), durations[pts], starts_shot)

    def _is_plain(self, group: Group, following: Group | None, times: list[int]) -> bool:
        """Is the group as groups should be, so that frames may be left out and placed by their packets?"""
        gop = group.gop
        if gop.continues or gop.continued or group.decoder.any_damage:
            return False
        if gop.jumps or not gop.is_timed or (following and (following.gop.jumps or not following.gop.is_timed)):
            return False
        if any(packet.is_discard or packet.is_corrupt for packet in gop.packets):
            return False
        return bool(group.seen) and group.seen[0].pts == gop.key_pts == times[0]

    def _decode(self, group: Group, following: Group | None, times: list[int]) -> set[int] | None:
        """Decode on. Returns where shots start within the group (ticks), and notes whether one starts with the next.
        None if that cannot be told for certain."""
        self._mark_suspects(group, following)
        if group.lead_is_exact and not group.evident_cut:
            group.reach = max(group.reach, times[: NEIGHBOURS + 1][-1])
        self._feed_to(group, max(group.reach, self._picture_reach(group, following, times)))
        if following and group.seen[-1].pts < times[-1] and self._endings.unlike(group, following):
            following.evident_cut = self._endings.evident_cut(group, following)
            if not following.evident_cut and not self._endings.only_moves(group):
                group.whole.update(times[-1 - NEIGHBOURS :])
                group.decoder.extend(leading_of(following.gop))
                self._feed_to_end(group, following, times)
        self._feed_to_pictures(group, following, times)
        self._drain(group)
        cuts = self._place_cuts(group, following, times)
        if following:
            thumbs = [seen.thumb for seen in group.seen]
            if len(times) == len(thumbs) and group.lead_is_exact:
                thumbs = group.lead + thumbs  # a short group: a flash may have begun before it
            following.lead, following.lead_is_exact = thumbs[-1 - NEIGHBOURS :], group.seen[-1].pts == times[-1]
        return cuts

    def _starts_shot(self, group: Group, following: Group | None) -> bool:
        """Does a shot start with the group's key frame?"""
        soon = group.gop.key_pts + (NEIGHBOURS + 0.5) / (self._reader.info.fps * self._reader.tick_s)
        return cut_at_key(group, following, soon, self._thresholds)

    def _picture_reach(self, group: Group, following: Group | None, times: list[int]) -> float:
        """Up to when (ticks) pictures are wanted, as far as the group's beginning tells."""
        if self._exact:
            return times[-1]
        first_s, last_s = self._timeline.time_s(times[0]), self._timeline.time_s(times[-1])
        return self._timeline.ticks(self._wanted.reach_s(group, following, first_s, last_s))

    def _feed_to_end(self, group: Group, following: Group, times: list[int]) -> None:
        """Decode on for a cut at the next key frame, unless by and by the picture becomes the one that comes there."""
        until, alike = group.seen[-1].pts, False
        while until < times[-1]:
            until = min(times[-1], until + self._timeline.ticks_in(LOOK_AGAIN_S))
            self._feed_to(group, until)
            was_alike, alike = alike, not self._endings.unlike(group, following)
            if was_alike and alike:
                break

    def _feed_to_pictures(self, group: Group, following: Group | None, times: list[int]) -> None:
        """Decode on as long as a clip that ends with the group, or soon after, has too few pictures."""
        if group.seen[-1].pts >= times[-1]:
            return
        cuts, unsure = cuts_inside(group, times, self._thresholds)
        first_s, last_s = self._timeline.time_s(times[0]), self._timeline.time_s(times[-1])
        starts_s = [self._timeline.time_s(pts) for pts in cuts | unsure]
        starts_s += [first_s] if self._starts_shot(group, following) else []
        shot_s = max([*starts_s, self._timeline.shot_start_s, self._maker.clip_start_s])
        until = group.seen[-1].pts
        for start_s, end_s in self._wanted.due(shot_s, first_s, last_s, ends=bool(following and following.evident_cut)):
            while until < times[-1] and self._maker.is_short_of_pictures(start_s, end_s):
                until = max(until, self._timeline.ticks(start_s)) + self._timeline.ticks_in(self._maker.least_gap_s)
                self._feed_to(group, until)

    def _place_cuts(self, group: Group, following: Group | None, times: list[int]) -> set[int] | None:
        """Where shots start within the group (ticks). A change that would be a cut, but with frames left out around it,
        is decoded again with those; None if they do not come."""
        for attempt in range(3):
            cuts, missing = cuts_inside(group, times, self._thresholds)
            if not missing:
                return cuts
            if attempt == 2:
                break
            group.whole |= missing
            before, group.seen = group.seen, []
            group.known = {seen.pts: seen.thumb for seen in before}
            group.decoder.start(group.own)
            group.decoder.extend(leading_of(following and following.gop))
            self._feed_to(group, max(missing))
            self._drain(group)
            group.seen += [seen for seen in before if not group.seen or seen.pts > group.seen[-1].pts]
        return None

    def _feed_to(self, group: Group, until: float) -> None:
        """Decode all packets shown up to `until` (ticks), and those that they need; look at what came."""
        packets = group.decoder.packets
        needed = [i for i, packet in enumerate(packets) if pts_of(packet) <= until]
        later = [i for i in anchors(packets) if pts_of(packets[i]) >= until]
        stop = max(needed[-1] if needed else 0, later[0] if later else 0)
        while group.decoder.next <= stop and not group.decoder.exhausted:
            self._feed(group)
        self._look(group)

    def _drain(self, group: Group) -> None:
        self._take(group, group.decoder.drain())
        self._look(group)

    def _feed(self, group: Group) -> None:
        pts = pts_of(group.decoder.packets[group.decoder.next])
        self._take(group, group.decoder.feed(needed=pts in group.whole))

    def _take(self, group: Group, frames: list[av.VideoFrame]) -> None:
        for frame in frames:
            if frame.pts is not None and group.gop.key_pts <= frame.pts < group.before:
                self._check(frame)
                group.waiting.append((frame.pts, frame))
                if not group.closing or len(group.waiting) >= self._images.handful(frame):
                    self._look(group, more=True)

    def _check(self, frame: av.VideoFrame) -> None:
        self._reader.refuse_oversized(frame)
        if self._turns is None:
            self._turns = self._reader.turned(frame)

    def _look(self, group: Group, *, more: bool = False) -> None:
        """Make the thumbnails of the frames that came; one that may wait for the next only if the picture changed.

        more: more may come, for which the last may wait.
        """
        frames, group.waiting = deque(group.waiting), []
        while frames:
            waited, frame = None, frames.popleft()
            if self._may_wait(group, frame[0]):
                if frames:
                    waited, frame = frame, frames.popleft()
                elif more:
                    group.waiting = [frame]
                    return
            seen = [self._seen(group, *frame)]
            if waited and change(group.seen[-1].thumb, seen[0].thumb) >= self._same:
                seen.insert(0, self._seen(group, *waited))
            group.seen += seen
            if group.closing:
                for one in seen:
                    self._sample(one)

    def _may_wait(self, group: Group, pts: int) -> bool:
        """Is the frame so near to the one last looked at that the next one will tell whether to look at it?"""
        if self._exact or not group.closing or not group.seen:
            return False
        if pts in group.whole or pts in group.known:  # decoded again, a group must not lose what it had
            return False
        return (pts - group.seen[-1].pts) * self._reader.tick_s <= NEAR_S

    def _seen(self, group: Group, pts: int, frame: av.VideoFrame) -> Seen:
        thumb = group.known.get(pts)
        return Seen(pts, self._images.thumbnail(frame) if thumb is None else thumb, frame)

    def _sample(self, seen: Seen) -> None:
        """Offer a frame as a picture, once."""
        image, seen.image = seen.image, None
        if image is not None:
            self._offer(self._timeline.time_s(seen.pts), seen.thumb, image)

    def _offer(self, time_s: float, thumb: np.ndarray, image: av.VideoFrame) -> None:
        if time_s <= self._sampled_s:  # decoded again
            return
        new = self._last_thumb is not None and change(self._last_thumb, thumb) >= self._thresholds.min_change
        self._sampled_s, self._last_thumb = time_s, thumb
        self._maker.sample(time_s, thumb[:, :, 2], self._images.later(image, self._turns or 0, self._reader), new=new)

    def _close_whole(self, group: Group, following: Group | None) -> Iterator[Clip]:
        """Decode every frame of a group and trust only what comes out: it is damaged, edited, or endless."""
        entered = group.gop.continues
        for frame, damaged in self._whole_frames(group, following):
            if frame.pts is not None and frame.pts >= group.before:  # the next key frame, for what refers to it
                continue
            if not entered and frame.pts is not None:
                self._timeline.enter(frame.pts)
                entered = True
            self._check(frame)
            time_s, thumb = self._timeline.next_s(frame.pts), self._images.thumbnail(frame)
            self._offer(time_s, thumb, frame)
            if damaged:
                self._maker.damaged(time_s)
            yield from self._timeline.show(time_s, thumb, frame.duration or 0)
        if following:
            following.lead, following.after_whole = [], True

    def _whole_frames(self, group: Group, following: Group | None) -> Iterator[tuple[av.VideoFrame, bool]]:
        decoder = group.decoder
        if group.gop.continues:
            decoder.go_on(group.own)
        else:
            decoder.start(group.own)
        if not group.gop.continued:
            decoder.extend(leading_of(following and following.gop))
        while not decoder.exhausted or not group.gop.continued:
            last = decoder.exhausted
            undecodable = decoder.damaged_packets
            for frame in decoder.drain() if last else decoder.feed():
                yield frame, bool(self._undecodable) or frame.is_corrupt
                self._undecodable = 0
            self._undecodable += decoder.damaged_packets > undecodable
            if last:
                return
