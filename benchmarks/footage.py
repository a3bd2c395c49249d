"""Real footage fetched from packages into benchmarks/footage/ (which git ignores), once."""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

FOOTAGE = Path(__file__).parent / "footage"
MOVIEPY = "moviepy==2.1.2"  # its source distribution ships the film


def big_buck_bunny() -> Path:
    """Big Buck Bunny (CC BY 3.0, Blender Foundation): 596 s of 1280x720 H.264 at 24 frames a second, AAC sound."""
    path = FOOTAGE / "bbb.mp4"
    if path.exists():
        return path
    FOOTAGE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", folder]
        subprocess.run([*pip, MOVIEPY], check=True)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            member = next(name for name in archive.getnames() if name.endswith("moviepy_10_minutes.zip"))
            inner = archive.extractfile(member)
            assert inner is not None
            with zipfile.ZipFile(io.BytesIO(inner.read())) as zipped:
                name = next(name for name in zipped.namelist() if name.endswith("bbb.mp4"))
                part = path.with_suffix(".part")
                part.write_bytes(zipped.read(name))
                part.rename(path)
    return path
