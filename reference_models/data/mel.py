"""Log-mel features of audio, the audio input of CorMulT."""

import warnings

import numpy as np
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from reference_models.checks import is_int, is_number


def log_mel(
    waveform: np.ndarray,
    sample_rate: int,
    *,
    n_mels: int = 80,
    window_seconds: float = 0.025,
    hop_seconds: float = 0.01,
    floor: float = 1e-10,
) -> np.ndarray:
    r"""The logarithm of the energy in each mel band, frame by frame.

    .. math::
        X_{\text{mel}}(n, m) = \log \max\Bigl(\text{floor},
            \sum_{k=0}^{N/2} |X_{\text{stft}}(n, k)|^2 H_m(k)\Bigr)

    Hann windows, no padding at either end, N the next power of two from the window's length up.
    The triangles :math:`H_m` peak at 1, at frequencies that are equally far apart on the mel scale
    between 0 and half the sample rate. The paper's sum extends above it, where they are zero.

    Args:
        waveform: (samples,) floating, one channel.
        sample_rate: samples in a second; an odd one has the frequencies of the even one below.
        n_mels: M, the bands.
        window_seconds: length of a frame.
        hop_seconds: from the start of a frame to the start of the next.
        floor: the least energy, so that silence has a logarithm.

    Returns:
        (frames, n_mels) float32; frames = 1 + (samples - window) // hop, both in whole samples.

    Raises:
        ValueError: another shape, dtype or values that are not finite; fewer samples than a window
            has; a rate, a length, a floor or a number of bands that cannot be; so many bands that
            one of them falls between two frequencies.

    References: CorMulT, arXiv:2407.07046, eq. 1-3, which give none of the numbers.
    """
    if not is_int(sample_rate) or sample_rate < 2:
        raise ValueError(f"sample_rate: expected a whole number from 2, got {sample_rate!r}")
    if not is_int(n_mels) or n_mels < 1:
        raise ValueError(f"n_mels: expected a whole number from 1, got {n_mels!r}")
    if not is_number(floor) or floor <= 0:
        raise ValueError(f"floor: expected a number above 0, got {floor!r}")
    window = _samples("window_seconds", window_seconds, sample_rate, fewest=2)
    hop = _samples("hop_seconds", hop_seconds, sample_rate, fewest=1)
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(
            f"waveform: expected floating samples of one channel, shape (samples,),"
            f" got {waveform.dtype} of shape {waveform.shape}"
        )
    if len(waveform) < window:
        raise ValueError(f"waveform: expected {window} samples or more, got {len(waveform)}")
    if not np.isfinite(waveform).all():
        raise ValueError("waveform: expected finite samples, got NaN or infinity")
    points = 2 ** (window - 1).bit_length()
    filters = _filters(points, n_mels, sample_rate)
    energies = spectrogram(
        waveform,
        window_function(window, "hann"),
        frame_length=window,
        hop_length=hop,
        fft_length=points,
        power=2.0,
        center=False,
        mel_filters=filters,
        mel_floor=floor,
        log_mel="log",
    )
    return np.ascontiguousarray(energies.T)


def _samples(name: str, seconds: float, sample_rate: int, *, fewest: int) -> int:
    """A length in samples."""
    samples = round(seconds * sample_rate) if is_number(seconds) else 0
    if samples < fewest:
        least = fewest / sample_rate
        raise ValueError(f"{name}: expected {least:g} or more at this rate, got {seconds!r}")
    return samples


def _filters(points: int, n_mels: int, sample_rate: int) -> np.ndarray:
    """(points / 2 + 1, n_mels): the weight of each frequency in each band."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its warnings are errors here
        filters = mel_filter_bank(points // 2 + 1, n_mels, 0, sample_rate / 2, sample_rate)
    empty = int((filters.max(axis=0) == 0).sum())
    if empty:
        raise ValueError(
            f"n_mels: expected bands that reach a frequency each, got {n_mels}, of which {empty} do"
            f" not; lower it, or lengthen window_seconds"
        )
    return filters
