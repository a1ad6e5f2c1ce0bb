"""Filterbanks against Kaldi's equations written out with a plain discrete Fourier transform, in float64."""

import math

import numpy as np
import pytest

from instar.speech.features import FeatureSettings, log_mel

pytest.importorskip("kaldi_native_fbank")


def mel(frequency: float) -> float:
    return 1127 * math.log(1 + frequency / 700)


def slow_log_mel(samples: np.ndarray, rate: int, num_mels: int) -> np.ndarray:
    shift, length = round(0.010 * rate), round(0.025 * rate)
    size = 2 ** math.ceil(math.log2(length))
    signal = samples.astype(np.float64) * 2**15
    num_frames = (len(signal) + shift // 2) // shift
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85
    transform = np.exp(-2j * np.pi * np.outer(np.arange(size // 2), np.arange(size)) / size)
    low, high = mel(20), mel(rate / 2)
    step = (high - low) / (num_mels + 1)
    rows = []
    for frame in range(num_frames):
        first = shift * frame + shift // 2 - length // 2
        places = np.arange(first, first + length)
        places = np.where(places < 0, -places - 1, places)  # mirrored at the edges
        places = np.where(places >= len(signal), 2 * len(signal) - 1 - places, places)
        piece = signal[places] - signal[places].mean()
        piece = (piece - 0.97 * np.concatenate((piece[:1], piece[:-1]))) * window
        power = np.abs(transform @ np.pad(piece, (0, size - length))) ** 2
        row = []
        for number in range(num_mels):
            left, centre, right = (low + (number + k) * step for k in range(3))
            energy = 0.0
            for bin_number in range(size // 2):
                place = mel(bin_number * rate / size)
                if left < place < right:
                    rise, fall = (place - left) / (centre - left), (right - place) / (right - centre)
                    energy += min(rise, fall) * power[bin_number]
            row.append(max(0.0, math.log(max(energy, 1e-12))))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(("rate", "num_mels", "length"), [(8000, 23, 1999), (16000, 40, 3200), (8000, 40, 801)])
def test_filterbanks_are_the_equation_s(rate: int, num_mels: int, length: int) -> None:
    generator = np.random.default_rng(num_mels + length)
    time = np.arange(length) / rate
    samples = (0.2 * np.sin(2 * np.pi * (300 + 2000 * time) * time) + 0.02 * generator.normal(size=length)).astype(
        "f4"
    )
    found = log_mel(samples, rate, FeatureSettings(num_mels=num_mels)).numpy()
    expected = slow_log_mel(samples, rate, num_mels)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-3)
