#!/usr/bin/env python3
"""Make a small video with shots, motion and sound, to try things on: make_dummy_video.py out.mp4 [--seconds 12]"""

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import av
import av.error
import cv2
import numpy as np

FPS, WIDTH, HEIGHT, SAMPLE_RATE, SHOT_S = 25, 640, 360, 44_100, 3.0
ENDINGS = (".mp4", ".mov", ".mkv")  # of containers that take H.264 and AAC
MAX_S = 86_400


def make(path: Path, seconds: float = 12.0) -> list[float]:
    """Write H.264 and AAC; return where shots start (seconds). Each has its own texture, motion and note."""
    path.parent.mkdir(parents=True, exist_ok=True)
    num_frames, shot_frames = round(seconds * FPS), round(SHOT_S * FPS)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index in range(num_frames):
            shot, within = divmod(index, shot_frames)
            frame = av.VideoFrame.from_ndarray(picture(shot, within / shot_frames), format="rgb24")
            container.mux(video.encode(frame))
            container.mux(audio.encode(tone(index)))
        container.mux(video.encode())
        container.mux(audio.encode())
    return [i * shot_frames / FPS for i in range(-(-num_frames // shot_frames))]


def picture(shot: int, progress: float) -> np.ndarray:
    """RGB frame of a shot: a texture that pans, and a ball that crosses it."""
    rng = np.random.default_rng(shot)
    coarse = rng.integers(30, 225, (6, 16, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (2 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 12, (HEIGHT, 2 * WIDTH, 1))
    left = round(progress * WIDTH / 4)
    frame = np.clip(wide[:, left : left + WIDTH] + grain[:, left : left + WIDTH], 0, 255).astype(np.uint8)
    centre = (round(progress * WIDTH), HEIGHT // 2 + round(HEIGHT / 4 * np.sin(6 * progress + shot)))
    return cv2.circle(np.ascontiguousarray(frame), centre, 40, tuple(int(c) for c in rng.integers(0, 255, 3)), -1)


def tone(index: int) -> av.AudioFrame:
    """The samples that sound during one video frame: a note that rises from shot to shot."""
    count = SAMPLE_RATE // FPS
    hertz = 220 * 2 ** ((index // round(SHOT_S * FPS)) / 4)
    samples = 0.2 * np.sin(2 * np.pi * hertz * np.arange(index * count, (index + 1) * count) / SAMPLE_RATE)
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, index * count, Fraction(1, SAMPLE_RATE)
    return frame


def main(arguments: list[str]) -> int:
    """The exit code: 2 for the caller's mistake, told in one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help=f"the file to write ({', '.join(ENDINGS)})")
    parser.add_argument("--seconds", type=float, default=12.0, help="its length (seconds) [12]")
    given = parser.parse_args(arguments)
    try:
        if given.path.suffix.lower() not in ENDINGS:
            raise ValueError(f"{given.path}: a video's name ends in {', '.join(ENDINGS)}")
        if not 1 / FPS <= given.seconds <= MAX_S:
            raise ValueError(f"--seconds {given.seconds:g}: from {1 / FPS:g}, which is one frame, to {MAX_S}")
        starts = make(given.path, given.seconds)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.path}: {given.seconds:g} s, shots start at {', '.join(f'{start:g}' for start in starts)} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
