"""Where videos come from. Only ids and locations leave this room; bytes are read by whoever opens a video."""

from pipeline.sources.listing import Found, VideoRef, find_videos
from pipeline.sources.opening import local_file, open_file, open_videos

__all__ = ["Found", "VideoRef", "find_videos", "local_file", "open_file", "open_videos"]
