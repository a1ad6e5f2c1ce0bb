"""Log-mel filterbanks of a recording."""

import numpy as np
import torch
from torch import Tensor

from instar.data.readers.audio import Samples
from instar.errors import DataError
from instar.naming import import_extra

_INT16 = 2.0**15  # Kaldi's filterbanks expect samples in the range of 16-bit integers


def filterbank(
    samples: Samples, sample_rate: int, *, num_mels: int = 40, shift_ms: float = 10.0, length_ms: float = 25.0
) -> Tensor:
    """The log-mel filterbank features of a recording, as Kaldi computes them without dither.

    x_{t,m} = max(0, ln sum_k H_m(k) |DFT(w s_t)_k|^2), where s_t are the samples of frame t in units of 16 bits,
    their mean subtracted, pre-emphasised by 0.97, w is Povey's window and H_m the m-th triangle on the mel scale
    1127 ln(1 + f/700) from 20 Hz to half the sample rate. Digital silence gives the floor, 0.

    Args:
        samples: (n,) float32 from -1 to 1.
        sample_rate: Hz.
        num_mels: number of filters.
        shift_ms: from one frame to the next.
        length_ms: length of a frame.

    Returns: (frames, num_mels) float32, frame t centred at (t + 1/2) shift_ms; at least one frame.

    Raises:
        DataError: the recording is shorter than half a shift.
        UsageError: kaldi-native-fbank is not installed.

    Example:
        >>> filterbank(np.zeros(8000, np.float32), 8000).shape
        torch.Size([100, 40])
    """
    fbank = import_extra("kaldi_native_fbank", "speech")
    options = fbank.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.frame_shift_ms = shift_ms
    options.frame_opts.frame_length_ms = length_ms
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = num_mels
    stream = fbank.OnlineFbank(options)
    stream.accept_waveform(sample_rate, (samples * _INT16).astype(np.float32))
    stream.input_finished()
    frames = [stream.get_frame(number) for number in range(stream.num_frames_ready)]
    if not frames:
        raise DataError(
            f"a recording of {len(samples)} samples is too short for a frame: half a shift is {shift_ms / 2:g} ms"
        )
    return torch.from_numpy(np.stack(frames)).clamp_(min=0.0)
