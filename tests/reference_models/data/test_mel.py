"""Log-mel features: the paper's sums as loops, tones, silence, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_models.data.mel import log_mel

RATE = 16_000


def mel(frequency):
    return 2595 * math.log10(1 + frequency / 700)


def hertz(value):
    return 700 * (10 ** (value / 2595) - 1)


def centres(n_mels, rate):
    """Where the triangles begin, peak and end: band m is from place m to place m + 2."""
    return [hertz(mel(rate / 2) * place / (n_mels + 1)) for place in range(n_mels + 2)]


def log_mel_by_loops(waveform, rate, n_mels, window, hop, points, floor):
    """Equations 1 to 3, with the upper half of the sum left out: its filters are zero."""
    edges = centres(n_mels, rate)
    frames = []
    for start in range(0, len(waveform) - window + 1, hop):
        bands = [0.0] * n_mels
        for k in range(points // 2 + 1):
            real = imaginary = 0.0
            for t in range(window):
                value = waveform[start + t] * (0.5 - 0.5 * math.cos(2 * math.pi * t / window))
                real += value * math.cos(2 * math.pi * k * t / points)
                imaginary -= value * math.sin(2 * math.pi * k * t / points)
            frequency = k * rate / points
            for m in range(n_mels):
                low, peak, high = edges[m : m + 3]
                if low <= frequency < peak:
                    share = (frequency - low) / (peak - low)
                elif peak <= frequency < high:
                    share = (high - frequency) / (high - peak)
                else:
                    share = 0.0
                bands[m] += (real**2 + imaginary**2) * share
        frames.append([math.log(max(floor, band)) for band in bands])
    return np.array(frames)


@pytest.mark.parametrize(("window", "points"), [(32, 32), (25, 32), (33, 64)])
def test_it_is_the_papers_equations(window, points):
    waveform = np.random.default_rng(3).normal(size=90)
    found = log_mel(waveform, 1000, n_mels=5, window_seconds=window / 1000, hop_seconds=0.013)
    expected = log_mel_by_loops(waveform, 1000, 5, window, 13, points, 1e-10)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_defaults_are_25_and_10_milliseconds_and_80_bands():
    waveform = np.random.default_rng(3).normal(size=1000)
    found = log_mel(waveform, RATE)
    again = log_mel(waveform, RATE, n_mels=80, window_seconds=0.025, hop_seconds=0.01, floor=1e-10)
    np.testing.assert_array_equal(found, again)
    assert found.shape == (1 + (1000 - 400) // 160, 80)


@pytest.mark.parametrize("band", [45, 60, 79])
@pytest.mark.parametrize("rate", [RATE, 22_050])
def test_a_tone_is_loudest_in_its_band(band, rate):
    frequency = centres(80, rate)[band + 1]
    tone = np.sin(2 * math.pi * frequency * np.arange(rate // 4) / rate)
    found = log_mel(tone, rate)
    assert set(found.argmax(axis=1)) == {band}


@pytest.mark.parametrize("floor", [1e-10, 1e-3])
def test_silence_is_the_floors_logarithm(floor):
    found = log_mel(np.zeros(800, dtype=np.float32), RATE, floor=floor)
    np.testing.assert_allclose(found, math.log(floor), rtol=1e-6)


@given(
    samples=st.integers(40, 200),
    window=st.integers(8, 40),
    hop=st.integers(1, 50),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_every_frame_is_its_own_window(samples, window, hop, dtype):
    waveform = np.random.default_rng(samples).normal(size=samples).astype(dtype)
    kept = waveform.copy()
    lengths = {"n_mels": 2, "window_seconds": window / 1000, "hop_seconds": hop / 1000}
    found = log_mel(waveform, 1000, **lengths)
    assert found.dtype == np.float32
    assert found.shape == (1 + (samples - window) // hop, 2)
    for row, frame in enumerate(found):
        alone = log_mel(waveform[row * hop : row * hop + window], 1000, **lengths)
        np.testing.assert_array_equal(alone, frame[None])
    np.testing.assert_array_equal(waveform, kept)


def test_twice_as_loud_is_four_times_the_energy():
    waveform = np.random.default_rng(3).normal(size=2000)
    louder = log_mel(2 * waveform, RATE)
    np.testing.assert_allclose(louder - log_mel(waveform, RATE), math.log(4), atol=1e-5)


def test_an_odd_rate_has_the_frequencies_of_the_even_one_below():
    waveform = np.random.default_rng(3).normal(size=2000)
    windows = {"window_seconds": 0.025, "hop_seconds": 0.01}
    odd, even = log_mel(waveform, 11_025, **windows), log_mel(waveform, 11_024, **windows)
    assert odd.shape == even.shape
    np.testing.assert_allclose(odd, even, atol=0.05)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sample_rate": 0}, "sample_rate: expected a whole number from 2, got 0"),
        ({"sample_rate": -16000}, "sample_rate: expected a whole number from 2, got -16000"),
        ({"sample_rate": 16000.0}, "sample_rate: expected a whole number from 2, got 16000.0"),
        ({"sample_rate": True}, "sample_rate: expected a whole number from 2, got True"),
        ({"n_mels": 0}, "n_mels: expected a whole number from 1, got 0"),
        ({"n_mels": 8.0}, "n_mels: expected a whole number from 1, got 8.0"),
        (
            {"n_mels": 200},
            r"n_mels: expected bands that reach a frequency each, got 200, of which \d+ do not",
        ),
        ({"window_seconds": 6e-5}, "window_seconds: expected 0.000125 or more at .*, got 6e-05"),
        ({"window_seconds": math.nan}, "window_seconds: expected 0.000125 or more at .*, got nan"),
        ({"hop_seconds": 0}, "hop_seconds: expected 6.25e-05 or more at this rate, got 0"),
        ({"hop_seconds": -0.01}, "hop_seconds: expected 6.25e-05 or more .*, got -0.01"),
        ({"hop_seconds": "0.01"}, "hop_seconds: expected 6.25e-05 or more .*, got '0.01'"),
        ({"floor": 0.0}, "floor: expected a number above 0, got 0.0"),
        ({"floor": math.inf}, "floor: expected a number above 0, got inf"),
        ({"waveform": np.zeros(399)}, "waveform: expected 400 samples or more, got 399"),
        ({"waveform": np.zeros((2, 800))}, r"waveform: .* one channel.* got float64 of shape \(2"),
        ({"waveform": np.zeros(800, dtype=np.int16)}, "waveform: expected floating .* got int16"),
        ({"waveform": np.full(800, np.nan)}, "waveform: expected finite samples, got NaN or inf"),
    ],
)
def test_what_cannot_be_is_refused(changed, message):
    arguments = {"waveform": np.zeros(800), "sample_rate": RATE, **changed}
    waveform, rate = arguments.pop("waveform"), arguments.pop("sample_rate")
    with pytest.raises(ValueError, match=message):
        log_mel(waveform, rate, **arguments)
