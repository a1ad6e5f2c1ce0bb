"""Windows of frames gathered on the fly against materialised ones; the paper's network against its products."""

import torch

from benchmarks.loop_limit import products
from benchmarks.timing import Seconds, Way, figure, has_bfloat16, in_turns, ratio, write_result
from instar.data import InMemoryDataset, batches, id_batches, shuffled
from instar.networks import build_network
from instar.speech.corpus import Utterance
from instar.speech.features import Features, FeatureSettings
from instar.speech.frames import FrameDataset
from instar.training import fit

BATCH_SIZE = 256
FRAMES_OF_UTTERANCE, NUM_UTTERANCES = 300, 400
PAPER_NETWORK, PAPER_STATES = "mlp:2560x8", 14_000  # from 26 frames of 40 filters: 84,377,600 weights
LEARNING_RATE = 0.01  # eight layers diverge at the 0.05 of small networks
STEPS = 2  # 0.13 TFLOP each
WIDTHS = (1040, *[2560] * 8, PAPER_STATES)
ROUNDS = 9


def main() -> None:
    """Measure, and write `results/bench-speech.json`."""
    data = _frames(NUM_UTTERANCES, num_states=83)
    windows = data.gather(data.ids, 0)
    materialised = InMemoryDataset(windows, data.labels(data.ids), class_names=data.class_names, ids=data.ids)
    gathering = in_turns({"on the fly": _epoch(data), "materialised": _epoch(materialised)}, rounds=ROUNDS)
    memory = windows.numel() / data.features.values.numel()
    ratios = {
        "gathering: on the fly over materialised": ratio(
            gathering["on the fly"], gathering["materialised"], goal="<= 1.1"
        ),
        "memory: materialised over on the fly": figure([memory] * 2, unit="ratio", goal=">= 20"),
    }
    seconds: Seconds = {f"gathering: {way}": values for way, values in gathering.items()}
    figures = {f"gathering: {way}": _rate(len(data), values) for way, values in gathering.items()}
    del windows, materialised
    precision = "bfloat16" if has_bfloat16() else "float32"
    fitting = in_turns(
        {"fit": _fit(precision), "products": products(WIDTHS, precision, STEPS, batch_size=BATCH_SIZE)},
        rounds=ROUNDS,
    )
    case = f"{PAPER_NETWORK}, {PAPER_STATES:,} states, {precision}"
    ratios[f"{case}: fit over its products"] = ratio(fitting["products"], fitting["fit"], goal=">= 0.6")
    for way, values in fitting.items():
        seconds[f"{case}: {way}"] = values
        figures[f"{case}: {way}"] = _rate(STEPS * BATCH_SIZE, values)
    config = {
        "data": f"random, {NUM_UTTERANCES} utterances of {FRAMES_OF_UTTERANCE} frames of 40 filters, window of 26",
        "batch_size": BATCH_SIZE,
        "steps": STEPS,
        "ratio": "gathering: seconds of an epoch of batches; fit: frames/s over those of its products alone",
    }
    write_result("speech", config=config, seconds=seconds, ratios=ratios, figures=figures)


def _frames(num_utterances: int, *, num_states: int) -> FrameDataset:
    total = num_utterances * FRAMES_OF_UTTERANCE
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(total, 40, generator=generator)
    said = tuple(Utterance(f"utterance-{number}", "nobody") for number in range(num_utterances))
    features = Features(values, said, (FRAMES_OF_UTTERANCE,) * num_utterances, 8000, FeatureSettings())
    states = {one.id: torch.arange(FRAMES_OF_UTTERANCE) % num_states for one in said}
    return FrameDataset(features, states, class_names=[f"state-{number}" for number in range(num_states)])


def _epoch(data: FrameDataset | InMemoryDataset) -> Way:
    wanted = id_batches(shuffled(data.ids, seed=0, epoch=0), BATCH_SIZE)

    def gather() -> None:
        for _ in batches(data, wanted, view=0):
            pass

    return gather


def _rate(num_frames: int, seconds: list[float]) -> dict[str, object]:
    return figure([num_frames / value for value in seconds], unit="examples/s")


def _fit(precision: str) -> Way:
    whole = _frames(1 + STEPS * BATCH_SIZE // FRAMES_OF_UTTERANCE, num_states=PAPER_STATES)
    data = whole.subset(whole.ids[: STEPS * BATCH_SIZE])
    network = build_network(PAPER_NETWORK, input_shape=data.example_shape, num_classes=PAPER_STATES, seed=0)
    return lambda: fit(
        network, data, epochs=1, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, precision=precision
    )


if __name__ == "__main__":
    main()
