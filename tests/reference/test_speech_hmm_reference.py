"""Alignment against hmmlearn, Gaussians and cepstra against scipy."""

import math

import hmmlearn.hmm
import numpy as np
import pytest
import scipy.fft
import scipy.stats
import torch

from instar.speech.alignment import align, flat_start
from instar.speech.gaussians import VARIANCE_FLOOR, DiagonalGaussians, cepstra
from instar.speech.grammar import Grammar
from instar.speech.graph import compile_graph
from instar.speech.hmm import HMM
from instar.speech.lexicon import Lexicon
from speech_models import random_hmm


def hmmlearn_states(
    hmm: HMM, words: tuple[str, ...], gaussians: DiagonalGaussians, frames: np.ndarray
) -> list[int]:
    """The states of the best path by hmmlearn's Viterbi, through the same words.

    hmmlearn's paths may end anywhere: one more frame, that only one more node can explain, ends them where we do.
    """
    graph = compile_graph(hmm, Grammar.sequence(words))
    nodes = graph.num_nodes
    transitions = np.zeros((nodes + 1, nodes + 1))
    for node in range(nodes):
        for source, weight in zip(graph.predecessors[node].tolist(), graph.weights[node].tolist(), strict=True):
            transitions[source, node] = max(transitions[source, node], math.exp(weight))
    transitions[:nodes, nodes] = graph.final.exp().numpy()
    transitions[nodes, nodes] = 1
    far = 1e4
    model = hmmlearn.hmm.GaussianHMM(nodes + 1, covariance_type="diag")
    model.startprob_ = np.append(graph.initial.exp().numpy(), 0)
    model.transmat_ = transitions / transitions.sum(1, keepdims=True)
    assert np.allclose(model.transmat_, transitions, atol=1e-12)  # ours were probabilities already
    model.startprob_ /= model.startprob_.sum()
    last = np.full((1, frames.shape[1]), far)
    model.means_ = np.concatenate((gaussians.means.numpy()[graph.states.numpy()], last))
    model.covars_ = np.concatenate((gaussians.variances.numpy()[graph.states.numpy()], np.ones_like(last)))
    path = model.predict(np.concatenate((frames, last)))
    assert path[-1] == nodes
    return graph.states[torch.from_numpy(path[:-1])].tolist()


@pytest.mark.parametrize("words", [("no",), ("no", "yes"), ("yes", "yes", "no")])
def test_alignment_is_that_of_hmmlearn(words: tuple[str, ...]) -> None:
    hmm = random_hmm(Lexicon.of_phones({"no": "n ow", "yes": "y eh s"}), seed=3, states=3, silence_states=3)
    generator = np.random.default_rng(len(words))
    num_states = len(hmm.state_names)
    gaussians = DiagonalGaussians(
        torch.from_numpy(generator.normal(size=(num_states, 4))),
        torch.from_numpy(generator.uniform(0.5, 2, size=(num_states, 4))),
    )
    for trial in range(5):
        frames = np.random.default_rng(trial).normal(size=(60, 4))
        scores = gaussians.log_likelihoods(torch.from_numpy(frames))
        ours = align(hmm, {"u": words}, {"u": scores}.__getitem__).states["u"].tolist()
        assert ours == hmmlearn_states(hmm, words, gaussians, frames)


def test_gaussians_are_the_maximum_likelihood_ones_and_scipy_agrees_on_their_density() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal([0, 5], [1, 3], size=(300, 2))
    states = generator.integers(0, 3, size=300)
    found = DiagonalGaussians.fit([torch.from_numpy(features)], [torch.from_numpy(states)], 4)
    log_likelihoods = found.log_likelihoods(torch.from_numpy(features)).numpy()
    for state in range(3):
        own = features[states == state]
        assert found.means[state].numpy() == pytest.approx(own.mean(0), abs=1e-9)
        assert found.variances[state].numpy() == pytest.approx(own.var(0), abs=1e-9)
        density = scipy.stats.norm.logpdf(features, own.mean(0), own.std(0)).sum(1)
        assert log_likelihoods[:, state] == pytest.approx(density, abs=1e-3)
    assert found.means[3].numpy() == pytest.approx(features.mean(0))  # of a state without frames


def test_variances_have_a_floor() -> None:
    features = torch.tensor([[0.0], [0.0], [0.0], [10.0]])
    found = DiagonalGaussians.fit([features], [torch.tensor([0, 0, 0, 1])], 2)
    variance = float(features.double().var(correction=0))
    assert float(found.variances[0]) == pytest.approx(VARIANCE_FLOOR * variance)
    assert float(found.variances[1]) == pytest.approx(variance)  # one frame says nothing about it


def test_cepstra_are_scipys_cosine_transform_and_their_slopes_a_regression() -> None:
    features = torch.randn(9, 40)
    found = cepstra(features, num_cepstra=13).double().numpy()
    transform = scipy.fft.dct(features.double().numpy(), type=2, norm="ortho", axis=1)[:, :13]
    transform[:, 0] *= math.sqrt(2)  # scipy's is orthonormal at k = 0 too
    assert found[:, :13] == pytest.approx(transform, abs=1e-5)
    padded = np.pad(transform, ((2, 2), (0, 0)), mode="edge")
    for frame in range(9):
        slope = np.polyfit(np.arange(-2, 3), padded[frame : frame + 5], 1)[0]
        assert found[frame, 13:] == pytest.approx(slope, abs=1e-5)


def test_flat_start_finds_the_states_that_made_the_frames() -> None:
    """Frames drawn from known Gaussians of known states: training from words alone finds where each begins."""
    lexicon = Lexicon.of_phones({"no": "n ow", "on": "ow n"})
    hmm = HMM.new(lexicon, states_of_phone=2, states_of_silence=1)
    means = torch.randn(len(hmm.state_names), 6, generator=torch.Generator().manual_seed(1)) * 4
    generator = np.random.default_rng(0)
    transcripts, features, truth = {}, {}, {}
    for number in range(40):
        words = tuple(generator.choice(["no", "on"], size=2))
        units = ["sil", *(unit for word in words for unit in lexicon.pronunciations(word)[0].units), "sil"]
        states = np.repeat(hmm.states_of(units), generator.integers(2, 8, size=len(hmm.states_of(units))))
        name = f"u{number}"
        transcripts[name], truth[name] = words, torch.from_numpy(states)
        features[name] = means[truth[name]] + torch.from_numpy(generator.normal(size=(len(states), 6))).float()
    trained, gaussians, alignment = flat_start(hmm, features, transcripts)
    right = sum(int((alignment.states[name] == truth[name]).sum()) for name in truth)
    assert right / sum(map(len, truth.values())) > 0.98
    assert gaussians.means.float() == pytest.approx(means, abs=0.5)
    assert float(trained.stay.mean()) == pytest.approx(1 - 1 / 4.5, abs=0.05)  # 2 to 7 frames
