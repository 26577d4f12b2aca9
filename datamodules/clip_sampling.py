"""Which frames of a tracklet make up a clip: restricted random sampling (RRS), evenly spaced frames, and clips that cover every frame.

All functions speak of a tracklet by its number of frames F alone and return frame indices, so that a loader decodes what is drawn and
nothing else. RRS divides the tracklet into T chunks of ``L = ceil(F / T)`` frames (thesis, section 2.2.1; chunk length and padding as in
the released STE-NVAN code). T chunks of L frames may reach past the end: what lies there repeats the last frame (``padding="last"``) or
starts again at the first (``padding="wrap"``).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Padding = Literal["last", "wrap"]
"""What stands for the frames that a tracklet lacks: its last frame again, or the tracklet from its start."""

FrameIndices = npt.NDArray[np.int64]


def rrs_train_frames(num_frames: int, clip_length: int, generator: np.random.Generator, padding: Padding = "last") -> FrameIndices:
    """Draw one frame of each of T equal chunks, uniformly and independently.

    Source: thesis, section 2.2.1, restricted random sampling.

    Args:
        num_frames: F, frames of the tracklet, at least 1.
        clip_length: T, chunks and frames of the clip, at least 1.
        generator: Source of the draws.
        padding: What fills the last chunks when ``T * ceil(F / T) > F``.

    Returns:
        ``[T]`` int64 in ``0..F-1``; ascending with ``padding="last"``, the first of the first chunk, the last of the last.

    Raises:
        ValueError: The tracklet is empty, ``clip_length`` is below 1, or ``padding`` is unknown.
    """
    chunks = _chunks(num_frames, clip_length, padding)
    return np.take_along_axis(chunks, generator.integers(chunks.shape[1], size=(clip_length, 1)), axis=1)[:, 0]


def rrs_test_frames(num_frames: int, clip_length: int, padding: Padding = "last") -> FrameIndices:
    """The first frame of each of T equal chunks (thesis, section 2.2.1).

    Arguments, errors and result as ``rrs_train_frames``, without a draw.
    """
    return _chunks(num_frames, clip_length, padding)[:, 0]


def all_clips_frames(num_frames: int, clip_length: int, padding: Padding = "last") -> FrameIndices:
    """Split a tracklet into ``L = ceil(F / T)`` interleaved clips, so that each frame is in exactly one of them.

    Clip j holds frame j of every chunk: ``j, j + L, j + 2L, ...``, so that every clip spans the tracklet; clip 0 is ``rrs_test_frames``.
    The ``L * T - F`` padded places, fewer than T, weigh the repeated frames more in a mean over the clips.

    Source: testing of CF-AAN (thesis, section 2.5; ``test_all_sampled`` of its released code).

    Args:
        num_frames: F, at least 1.
        clip_length: T, at least 1.
        padding: What stands in the places past the end.

    Returns:
        ``[L, T]`` int64 in ``0..F-1``.

    Raises:
        ValueError: As ``rrs_train_frames``.
    """
    return _chunks(num_frames, clip_length, padding).T.copy()


def evenly_spaced_frames(num_frames: int, clip_length: int, padding: Padding = "last") -> FrameIndices:
    """T distinct frames at equal distances from the first to the last, ``floor(t * (F - 1) / (T - 1))``; for T = 1 the middle frame.

    A tracklet of fewer than T frames gives all of them, then padding, as RRS does. Arguments and errors as ``rrs_train_frames``.

    Returns:
        ``[T]`` int64 in ``0..F-1``; with ``T >= 2`` and ``F >= T`` the first is 0 and the last F - 1.
    """
    if num_frames <= clip_length:
        return _chunks(num_frames, clip_length, padding)[:, 0]
    _require_frames(num_frames, clip_length, padding)
    if clip_length == 1:
        return np.array([(num_frames - 1) // 2], dtype=np.int64)
    return np.arange(clip_length, dtype=np.int64) * (num_frames - 1) // (clip_length - 1)


def _chunks(num_frames: int, clip_length: int, padding: Padding) -> FrameIndices:
    """``[T, L]``: row t holds the frames of chunk t, padded."""
    _require_frames(num_frames, clip_length, padding)
    chunk_length = -(-num_frames // clip_length)
    places = np.arange(clip_length * chunk_length, dtype=np.int64).reshape(clip_length, chunk_length)
    return np.minimum(places, num_frames - 1) if padding == "last" else places % num_frames


def _require_frames(num_frames: int, clip_length: int, padding: Padding) -> None:
    if num_frames < 1:
        raise ValueError(f"cannot sample a clip from an empty tracklet (num_frames={num_frames}); leave such tracklets out")
    if clip_length < 1:
        raise ValueError(f"clip_length must be at least 1, got {clip_length}")
    if padding not in get_args(Padding):
        raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, got {padding!r}")
