"""Networks of texts by name: bag, convolutions, transformer."""

from pathlib import Path

import pytest
import torch

import instar
from instar.data import as_dataset, numbered
from instar.deploy import cost_of
from instar.errors import UsageError
from instar.networks import build_network, cut, layers_of

IDS = [[5, 3, 9], [8], [4, 4, 1, 2, 7], [6, 6]] * 4
FORM = {"input_ids": ("int64<12", "<=5"), "attention_mask": ("mask", "<=5")}
NAMES = {
    "bag:8": ["embedding", "fc1", "fc2"],
    "textconv:8-6": ["embedding", "conv1", "conv2", "head"],
    "textconv:8x2": ["embedding", "conv1", "conv2", "head"],
    "transformer:2x8": ["embedding", "block1", "block2", "head"],
}


def texts() -> instar.data.Dataset:
    return as_dataset(({"input_ids": numbered(IDS, 12)}, [0, 1, 2, 1] * 4))


@pytest.mark.parametrize("name", NAMES)
def test_padding_counts_for_nothing(name: str) -> None:
    data = texts()
    network = build_network(name, input_shape=data.example_shape, num_classes=3, seed=0).eval()
    together = instar.predict_logits(network, data)
    for row in range(4):
        alone = network(torch.tensor([IDS[row]]), torch.ones(1, len(IDS[row]), dtype=torch.int64))[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_its_layers_are_found_cut_and_costed(name: str) -> None:
    data = texts()
    network = build_network(name, input_shape=FORM, num_classes=3, seed=0, dropout=0.1)
    inputs = data.gather(data.ids[:3], 0)
    assert [layer.name for layer in layers_of(network, inputs)] == NAMES[name]
    parts = cut(network, 2, inputs)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(parts.rest(*parts.prefix(**inputs)), network(**inputs))
    cost = cost_of(network, FORM, repeats=1)
    assert cost.parameters == sum(value.numel() for value in network.parameters())
    assert cost.multiplications is not None


def test_a_bag_is_a_mean_and_a_perceptron() -> None:
    network = build_network("bag:4", input_shape=FORM, num_classes=3, seed=0).eval()
    state = network.state_dict()
    mean = state["embedding.weight"][[5, 3, 9]].mean(0)
    hidden = torch.relu(state["fc1.0.weight"] @ mean + state["fc1.0.bias"])
    expected = state["fc2.weight"] @ hidden + state["fc2.bias"]
    found = network(torch.tensor([[5, 3, 9, 0]]), torch.tensor([[1, 1, 1, 0]]))[0]
    torch.testing.assert_close(found, expected)


def test_the_order_of_words_counts_but_for_a_bag() -> None:
    mask = torch.ones(1, 4, dtype=torch.int64)
    for name in NAMES:
        network = build_network(name, input_shape=FORM, num_classes=3, seed=0).eval()
        one, other = (network(torch.tensor([ids]), mask) for ids in ([1, 2, 3, 4], [4, 2, 3, 1]))
        assert torch.allclose(one, other, atol=1e-5) == name.startswith("bag")


def test_a_transformer_learns_from_the_order_of_words() -> None:
    """What no bag can: which of two words comes first."""
    ids = torch.cat((torch.tensor([[1, 2]]).repeat(32, 1), torch.tensor([[2, 1]]).repeat(32, 1)))
    ids = torch.cat((torch.randint(3, 12, (64, 3), generator=torch.Generator().manual_seed(0)), ids), 1)
    data = as_dataset(({"input_ids": numbered(ids.tolist(), 12)}, [0] * 32 + [1] * 32))
    network = build_network("transformer:1x16", input_shape=data.example_shape, num_classes=2, seed=0)
    result = instar.train(network, data, epochs=30, batch_size=16, learning_rate=0.01, optimiser="adamw")
    assert instar.evaluate(result.network, data)["accuracy"] == 1


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("bag:8x2", FORM, "network 'bag:8x2' should be bag:DIM"),
        ("textconv:", FORM, "network 'textconv:' should be textconv:CHANNELS"),
        ("transformer:64", FORM, "network 'transformer:64' should be transformer:LAYERSxWIDTH"),
        ("transformer:1x7", FORM, "transformer:1x7: the width should be even"),
        ("bag:8", (1, 8, 8), r"network 'bag:8' takes texts \(input_ids\), an example is 1x8x8: name a source"),
        ("bag:8", {"input_ids": ("int64", "<=5")}, "has to know how many ids there are"),
        ("mlp:8x1", FORM, "takes single tensors of numbers, an example is .*; for texts there are bag:64"),
        ("bags:8", FORM, "takes single tensors of numbers"),
    ],
)
def test_wrong_names_and_examples(name: str, form: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_network(name, input_shape=form, num_classes=3, seed=0)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's exporter about itself
@pytest.mark.parametrize("name", ["bag:8", "textconv:8-6", "transformer:2x8"])
def test_it_can_be_exported_for_any_length(name: str, tmp_path: Path) -> None:
    onnxruntime, _ = pytest.importorskip("onnxruntime"), pytest.importorskip("onnxscript")
    network = build_network(name, input_shape=FORM, num_classes=3, seed=0).eval()
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    names = ["input_ids", "attention_mask"]
    program = torch.onnx.export(
        network, (), kwargs=texts().gather(texts().ids[:2], 0), dynamic_shapes=dict.fromkeys(names, sizes),
        input_names=names, verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    for batch, length in ((1, 1), (3, 20)):
        ids, mask = torch.randint(0, 12, (batch, length)), torch.ones(batch, length, dtype=torch.int64)
        mask[0, 1:] = 0
        found = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), network(ids, mask).detach(), atol=1e-5, rtol=0)


def test_a_mixture_of_networks_of_texts_takes_texts() -> None:
    data = texts()
    mixture = build_network("mixture:2/bag:4/bag:2", input_shape=data.example_shape, num_classes=3, seed=0).eval()
    inputs = data.gather(data.ids, 0)
    gate, experts = mixture.gate(**inputs).softmax(1), [expert(**inputs).softmax(1) for expert in mixture.experts]  # type: ignore[operator, union-attr]
    mean = gate[:, :1] * experts[0] + gate[:, 1:] * experts[1]
    torch.testing.assert_close(mixture(**inputs).exp(), mean)
