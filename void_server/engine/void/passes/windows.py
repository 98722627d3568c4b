"""How a shot of any length is cut for a model that sees 85 frames: padding, temporal windows, blending weights.

What comes in: frame and latent counts. What goes out: indices, spans and weights as plain numbers. It does not know
pixels, tensors or models.

Words: a latent stands for 4 frames, but the first for one. The transformer takes latents in pairs, so legal frame
counts are 8k + 5: 5, 13, ..., 77, 85, 93, ..., 197 (released: videox_fun/utils/utils.py:282-319, patch_size_t 2).
"""

from __future__ import annotations

WINDOW_FRAMES = 85
"""Frames that one pass of the transformer sees (released: config/quadmask_cogvideox.py, temporal_window_size)."""
RELEASED_MAX_FRAMES = 197
"""The released scripts read no further (released: config/quadmask_cogvideox.py, max_video_length)."""
OVERLAP_LATENTS = 4
"""Latents that neighbouring windows share: temporal_multidiffusion_stride 16 frames // 4
(released: videox_fun/pipeline/pipeline_cogvideox_fun_inpaint.py:774, 1178). The config's own key for it is
misspelled and reaches nobody."""


def legal_frames(frames: int, at_least: int = 1, at_most: int | None = None) -> int:
    """The frame count that the model is run with for a clip of `frames`: the next 8k + 5, within limits.

    >>> [legal_frames(n) for n in (1, 22, 85, 86, 96, 197)]
    [5, 29, 85, 93, 101, 197]
    >>> legal_frames(22, at_least=85), legal_frames(300, at_least=85, at_most=197)
    (85, 197)
    """
    length = 8 * max(0, -(-(frames - 5) // 8)) + 5
    if at_most is not None:
        length = min(length, at_most)
    return max(length, at_least)


def window_frames(frames: int) -> int:
    """The largest 8k + 5 that a window of `frames` holds: a window of an odd number of latents loses one
    (released: pipeline_cogvideox_fun_inpaint.py:932-941).

    >>> window_frames(85), window_frames(49), window_frames(3)
    (85, 45, 5)
    """
    return max(5, 8 * ((frames - 5) // 8) + 5)


def latent_count(frames: int) -> int:
    """Latents of a clip of 4k + 1 frames.

    >>> latent_count(85), latent_count(197)
    (22, 50)
    """
    return (frames - 1) // 4 + 1


def ping_pong(frames: int, length: int) -> list[int]:
    """Indices that lengthen a clip to `length` by playing it backwards and forwards, its last frame twice
    (released: videox_fun/utils/utils.py:304-318).

    >>> ping_pong(3, 8)
    [0, 1, 2, 2, 1, 0, 0, 1]
    """
    turn = [*range(frames), *reversed(range(frames))]
    return [turn[i % len(turn)] for i in range(length)]


def spans(latents: int, window: int, overlap: int = OVERLAP_LATENTS) -> list[tuple[int, int]]:
    """Half-open windows over `latents`, each sharing `overlap` with the next (released: pipeline, 1180-1210).

    >>> spans(50, 22)
    [(0, 22), (18, 40), (36, 50)]
    >>> spans(22, 22)
    [(0, 22)]
    """
    if latents <= window:
        return [(0, latents)]
    if overlap >= window:
        raise ValueError(f"windows of {window} latents can't share {overlap}")
    found = []
    begin = 0
    while True:
        end = min(begin + window, latents)
        found.append((begin, end))
        if end >= latents:
            return found
        begin = end - overlap


def weights(span: tuple[int, int], latents: int, overlap: int = OVERLAP_LATENTS) -> list[float]:
    """How much each latent of a window counts where windows meet: linear ramps that never reach 0
    (released: pipeline, 1194-1205, linspace(0, 1, overlap + 2)[1:-1]).

    The falling ramp is laid over the rising one, as released, where a last window is shorter than both together.

    >>> weights((18, 24), 24)
    [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    """
    begin, end = span
    length = end - begin
    ramp = [(i + 1) / (overlap + 1) for i in range(overlap)]
    found = [1.0] * length
    if begin > 0 and overlap:
        found[:overlap] = ramp[:length]
    if end < latents and overlap:
        found[-overlap:] = ramp[::-1][:length]
    return found
