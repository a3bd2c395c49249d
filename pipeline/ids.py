"""Deterministic ids: the same video and the same span have the same id in every run, on every machine."""

import hashlib


def video_id(identity: str) -> str:
    """16 hex digits from what identifies the video: its absolute path or URI, and the row in a shard."""
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def clip_id(video_id: str, start_s: float, end_s: float) -> str:
    """The video's id and the span in milliseconds: sorts by time, and is safe as a file name."""
    return f"{video_id}_{round(start_s * 1000):08d}_{round(end_s * 1000):08d}"
