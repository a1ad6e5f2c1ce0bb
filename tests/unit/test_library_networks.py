"""Networks of timm, torchvision and transformers by name: the libraries themselves are the second opinion."""

import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from instar.deploy import cost_of
from instar.errors import DataError, InstarError, UsageError
from instar.identity import first_difference
from instar.networks import (
    as_logits,
    brings_weights,
    build_network,
    cut,
    described,
    forward_logits,
    head_change,
    identity_inputs,
    layers_of,
    named_layers,
    network_identity,
    shift_logits_,
)
from instar.networks.libraries.of_timm import timm
from instar.networks.libraries.of_torchvision import models
from instar.networks.libraries.of_transformers import transformers
from instar.networks.stages import name_stages_
from library_networks import SHOWN, vit_folder

PREPROCESSOR = "preprocessor_config.json"
PICTURES = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
NAMES = ["cat", "dog", "fox"]


def built(spec: str, num_classes: int = 3, channels: int = 3, **options: Any) -> Any:
    options = {"seed": 0, **options}
    return build_network(spec, input_shape=(channels, 24, 24), num_classes=num_classes, **options).eval()


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    vit_folder(tmp_path / "vit", NAMES)
    return tmp_path / "vit"


def normalised(pixels: Tensor, mean: Any, std: Any) -> Tensor:
    return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def hub_folder(cache: Path, name: str) -> Path:
    """The folder of a model in the hub's cache, as its client lays it out."""
    repo = cache / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "snapshots" / ("0" * 40)).mkdir(parents=True)
    return repo / "snapshots" / ("0" * 40)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("names", [NAMES, ["fox", "cat", "dog"], ["fox", "dog"]])
def test_a_folder_gives_the_logits_that_transformers_gives_in_the_order_of_the_data(
    tmp_path: Path, names: list[str]
) -> None:
    theirs = vit_folder(tmp_path, NAMES)
    network = built(f"transformers:{tmp_path}", len(names), weights="own", class_names=names)
    inputs = normalised(PICTURES, SHOWN["image_mean"], SHOWN["image_std"])
    with torch.no_grad():
        expected = theirs(interpolate(inputs, size=(16, 16), mode="bicubic", antialias=True)).logits
        found = forward_logits(network, PICTURES)
    assert torch.allclose(found, expected[:, [NAMES.index(name) for name in names]], atol=1e-6)
    assert ("by name" in head_change(network)) == (names != NAMES)
    assert ("1 others are left out" in head_change(network)) == (len(names) == 2)


def test_a_folder_is_shown_what_the_processor_of_transformers_would_show_it(vit: Path) -> None:
    """Where nothing is resized the two agree exactly: resized pixels are not rounded to bytes here."""
    package = transformers()
    processor = package.ViTImageProcessor.from_pretrained(vit)
    pictures = (255 * torch.rand(2, 3, 16, 16)).to(torch.uint8)
    network = build_network(
        f"transformers:{vit}", input_shape=(3, 16, 16), num_classes=3, seed=0, weights="own"
    ).eval()
    seen: list[Tensor] = []
    network.vit.embeddings.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(pictures.float() / 255)
    assert torch.allclose(seen[0], processor(list(pictures), return_tensors="pt")["pixel_values"], atol=1e-6)


@pytest.mark.parametrize(
    ("shown", "mean", "std"),
    [
        ({**SHOWN, "do_normalize": False}, None, None),
        (
            {**SHOWN, "do_rescale": False},
            [v / 255 for v in SHOWN["image_mean"]],
            [v / 255 for v in SHOWN["image_std"]],
        ),
        (
            {**SHOWN, "rescale_factor": 1 / 127.5},
            [v / 2 for v in SHOWN["image_mean"]],
            [v / 2 for v in SHOWN["image_std"]],
        ),
        (None, None, None),
    ],
)
def test_the_normalisation_is_that_for_pixels_from_0_to_1(tmp_path: Path, shown: Any, mean: Any, std: Any) -> None:
    vit_folder(tmp_path, NAMES, shown=shown)
    stated = getattr(built(f"transformers:{tmp_path}"), "input_normalisation", None)
    assert stated == (None if mean is None else (pytest.approx(mean), pytest.approx(std)))


@pytest.mark.parametrize("size", [{"shortest_edge": 20}, 20, {"height": 20, "width": 12}])
def test_sizes_in_all_the_ways_they_are_written(tmp_path: Path, size: Any) -> None:
    width = 12 if isinstance(size, dict) and "width" in size else 20
    vit_folder(tmp_path, NAMES, shown={**SHOWN, "size": size}, image_size=(20, width))
    assert built(f"transformers:{tmp_path}", weights="none").input_size == (20, width)
    cropped = {**SHOWN, "size": 18, "do_center_crop": True, "crop_size": {"height": 16, "width": 16}}
    vit_folder(tmp_path, NAMES, shown=cropped)
    assert built(f"transformers:{tmp_path}").input_size == (16, 16)
    assert built(f"transformers:{tmp_path}:24", weights="none").input_size == (24, 24)


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("timm:test_vit:32", ["patch_embed", *(f"blocks.{number}" for number in range(6)), "norm", "head"]),
        ("timm:test_resnet", ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]),
        ("timm:test_convnext:64", ["stem", "stages.0", "stages.1", "stages.2", "stages.3", "head"]),
        ("torchvision:resnet18", ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]),
        ("transformers", ["vit.embeddings", "vit.layers.0", "vit.layers.1", "vit.layernorm", "classifier"]),
        (
            "transformers resnet",
            ["resnet.embedder", "resnet.encoder.stages.0", "resnet.encoder.stages.1", "classifier"],
        ),
    ],
)
def test_every_cut_gives_the_same_logits(tmp_path: Path, spec: str, layers: list[str]) -> None:
    if spec == "transformers":
        vit_folder(tmp_path, NAMES)
        spec = f"transformers:{tmp_path}"
    elif spec == "transformers resnet":
        stages = {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8, "layer_type": "basic"}
        transformers().ResNetConfig(**stages).save_pretrained(tmp_path)
        spec = f"transformers:{tmp_path}"
    network = built(spec)
    assert [layer.name for layer in layers_of(network, PICTURES)] == layers
    with torch.no_grad():
        expected = forward_logits(network, PICTURES)
        for n in range(len(layers) + 1):
            parts = cut(network, n, PICTURES[:2])
            assert parts.cacheable, n
            assert torch.equal(as_logits(parts.rest(parts.prefix(PICTURES)), network), expected), n


class Texts(nn.Module):
    """A large vocabulary, and layers in a list inside another module, as a BERT has them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Module()
        self.body.embeddings = nn.Embedding(1000, 4)
        self.body.layer = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.unused, self.classifier = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.body.embeddings(inputs.long()).mean(1)
        for layer in self.body.layer:
            features = layer(features)
        logits: Tensor = self.classifier(features)
        return logits


def test_a_vocabulary_is_one_layer_and_what_is_not_called_is_none() -> None:
    network = Texts()
    name_stages_(network, torch.ones(2, 3))
    assert list(named_layers(network)) == ["body.embeddings", "body.layer.0", "body.layer.1", "classifier"]


@pytest.mark.parametrize("spec", ["timm:test_resnet", "timm:test_vit:32"])
def test_a_network_of_timm_is_the_one_that_timm_makes(spec: str) -> None:
    network = built(spec, num_classes=5)
    _, name, *size = spec.split(":")
    torch.manual_seed(0)
    theirs = timm().create_model(name, num_classes=5, **({"img_size": 32} if size else {})).eval()
    inputs = normalised(PICTURES, theirs.pretrained_cfg["mean"], theirs.pretrained_cfg["std"])
    if size:
        inputs = interpolate(inputs, size=(32, 32), mode="bicubic", antialias=True)
    with torch.no_grad():
        assert torch.allclose(forward_logits(network, PICTURES), theirs(inputs), atol=1e-5)
    other = built(spec, num_classes=5, seed=1).state_dict()
    assert not all(torch.equal(value, other[name]) for name, value in network.state_dict().items())


def test_networks_of_grey_pictures(tmp_path: Path) -> None:
    network = built("timm:test_resnet", channels=1)
    assert network.input_normalisation == ((0.5,), (0.5,))
    assert forward_logits(network, PICTURES[:, :1]).shape == (4, 3)
    vit_folder(tmp_path, NAMES)
    with pytest.raises(
        UsageError, match=r"takes pictures of 3 channels, those of the data have 1: .* --colour rgb"
    ):
        built(f"transformers:{tmp_path}", channels=1)
    (tmp_path / "model.safetensors").unlink()  # the architecture alone
    assert forward_logits(built(f"transformers:{tmp_path}", channels=1), PICTURES[:, :1]).shape == (4, 3)
    with pytest.raises(
        UsageError, match=r"takes colour pictures, those of the data have 1 channels: .* --colour rgb"
    ):
        built("torchvision:shufflenet_v2_x0_5", channels=1)


def test_weights_of_timm_are_found_in_the_cache_of_the_hub(cache: Path) -> None:
    torch.manual_seed(3)
    theirs = timm().create_model("test_resnet").eval()
    save_file(theirs.state_dict(), hub_folder(cache, "timm/test_resnet.r160_in1k") / "model.safetensors")
    network = built("timm:test_resnet@pretrained")
    assert network.input_size == (160, 160)  # that its weights were trained on
    assert torch.equal(network.layer4[0].conv1.weight, theirs.layer4[0].conv1.weight)
    assert "has a head of 1000 other classes: it got a new one of 3" in head_change(network)
    synsets = ["n01443537", "n01440764"]  # goldfish, tench: 1 and 0
    taught = built("timm:test_resnet@pretrained", 2, weights="own", class_names=synsets)
    assert torch.equal(taught.fc.weight, theirs.fc.weight[[1, 0]])
    assert torch.equal(taught.fc.bias, theirs.fc.bias[[1, 0]])
    with pytest.raises(
        UsageError, match=r"trained for 1000 classes \('n01440764', .* and lacks 'cat', 'dog', 'fox'"
    ):
        built("timm:test_resnet@pretrained", weights="own", class_names=NAMES)


def test_weights_of_torchvision_are_found_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    package = models()
    torch.manual_seed(3)
    theirs = package.get_model("shufflenet_v2_x0_5", weights=None)
    weights = package.get_model_weights("shufflenet_v2_x0_5").DEFAULT
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(theirs.state_dict(), tmp_path / "hub" / "checkpoints" / Path(weights.url).name)
    names = ["goldfish", "tench"]
    network = built("torchvision:shufflenet_v2_x0_5@pretrained", 2, weights="own", class_names=names)
    assert torch.equal(network.fc.weight, theirs.fc.weight[[1, 0]])
    assert network.input_size == (224, 224)
    assert network.input_normalisation == (tuple(weights.transforms().mean), tuple(weights.transforms().std))


def test_a_folder_of_the_hub_is_found_in_its_cache(cache: Path, tmp_path: Path) -> None:
    vit_folder(tmp_path / "vit", NAMES)
    shutil.copytree(tmp_path / "vit", hub_folder(cache, "someone/vit"), dirs_exist_ok=True)
    network = built("transformers:someone/vit", weights="own", class_names=NAMES)
    same = built(f"transformers:{tmp_path / 'vit'}", weights="own", class_names=NAMES)
    assert torch.equal(forward_logits(network, PICTURES), forward_logits(same, PICTURES))
    assert brings_weights("transformers:someone/vit")


def test_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    vit_folder(tmp_path, ["cat", "dog", "cat"])
    with pytest.raises(UsageError, match="has 'cat' more than once: expected all 2 of the data by name"):
        built(f"transformers:{tmp_path}", 2, weights="own", class_names=["cat", "dog"])


def test_a_folder_of_timm(tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = timm().create_model("test_resnet", num_classes=3).eval()
    timm().models.save_for_hf(theirs, tmp_path, model_config={"label_names": NAMES}, safe_serialization=True)
    network = built(f"timm:{tmp_path}", weights="own", class_names=NAMES[::-1])
    assert torch.equal(network.fc.weight, theirs.fc.weight.flip(0))
    with pytest.raises(UsageError, match=r"config.json is of timm: timm:"):
        built(f"transformers:{tmp_path}")


def test_a_file_of_weights(tmp_path: Path) -> None:
    state = built("timm:test_resnet").state_dict()
    save_file({f"model.{name}": value + 1 for name, value in state.items()}, tmp_path / "mine.safetensors")
    spec = f"timm:test_resnet@{tmp_path / 'mine.safetensors'}"
    assert torch.equal(built(spec, seed=5, weights="own").fc.weight, state["fc.weight"] + 1)
    started = built(spec, num_classes=7, seed=5)
    assert torch.equal(started.layer1[0].conv1.weight, state["layer1.0.conv1.weight"] + 1)
    assert torch.equal(started.fc.weight, built("timm:test_resnet", num_classes=7, seed=5).fc.weight)
    with pytest.raises(UsageError, match="has 3 classes, whose names are not known; the data have 7"):
        built(spec, num_classes=7, weights="own")


def test_weights_of_another_architecture_are_called_so(vit: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(
        DataError, match=r"holds weights of another architecture than timm:test_resnet@.*classifier"
    ):
        build_network(
            f"timm:test_resnet@{vit / 'model.safetensors'}", input_shape=(3, 32, 32), num_classes=3, seed=0
        )


def test_a_folder_describes_its_network_where_it_is_gone(vit: Path) -> None:
    spec = f"transformers:{vit}"
    files = described(spec)
    before = network_identity(built(spec, weights="none"), identity_inputs((3, 24, 24)))
    shutil.rmtree(vit)
    network = built(spec, weights="none", described=files)
    assert first_difference(before, network_identity(network, identity_inputs((3, 24, 24)))) is None
    assert network.input_size == (16, 16)
    with pytest.raises(UsageError, match="there is no folder"):
        built(spec)


def test_cost_and_bias_of_a_vit(vit: Path) -> None:
    network = built(f"transformers:{vit}", weights="own")
    cost = cost_of(network, (3, 24, 24), repeats=1)
    assert cost.parameters == sum(value.numel() for value in network.parameters())
    width, tokens = 16, 17
    a_layer = tokens * (4 * width * width + 2 * width * 32) + 2 * tokens * tokens * width
    assert cost.multiplications == 16 * 3 * 16 * width + 2 * a_layer + 3 * width
    before = forward_logits(network, PICTURES)
    shift_logits_(network, torch.tensor([1.0, 0.0, -1.0]), PICTURES, caller="test")
    assert torch.allclose(forward_logits(network, PICTURES) - before, torch.tensor([1.0, 0.0, -1.0]), atol=1e-5)


def _change(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        if name.endswith(".json"):
            (folder / name).write_text(json.dumps(change(json.loads((folder / name).read_text()))))
        else:
            save_file(change(load_file(folder / name)), folder / name, metadata={"format": "pt"})

    return act


def _set(name: str, key: str, value: Any) -> Callable[[Path], None]:
    return _change(name, lambda about: {**about, key: value})


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_pickle, r"pytorch_model.bin, a pickle, .* is not read: .* save_pretrained"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config.json; .* save_pretrained"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config.json is not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config.json holds list, expected an object"),
        (
            _change("config.json", lambda about: {**about, "model_type": "bert"}),
            r"is a bert, .* no classification of pict",
        ),
        (
            _change(
                "config.json", lambda about: {**about, "model_type": "mine", "auto_map": {"AutoModel": "a.B"}}
            ),
            r"brings code of its own \(mine\), which is never run: .*python:MODULE:FUNCTION",
        ),
        (
            _change("config.json", lambda about: {**about, "model_type": "mine"}),
            r"model_type 'mine', which transf",
        ),
        (
            _change("config.json", lambda about: {**about, "hidden_size": 20}),
            r"model.safetensors is of another architecture than its config.json: .* expected",
        ),
        (
            _change("model.safetensors", lambda state: {k: v for k, v in state.items() if "classifier" not in k}),
            r"has no classification head \(classifier.weight is not there\)",
        ),
        (
            _change(
                "model.safetensors",
                lambda state: {k: v for k, v in state.items() if not k.startswith("vit.layernorm")},
            ),
            r"is of another architecture than .*: it has no 'vit.layernorm.weight'",
        ),
        (
            _change("model.safetensors", lambda state: {**state, "classifier.bias": torch.full((3,), torch.nan)}),
            r"classifier.bias holds NaN or infinity",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"), r"cannot be read as weights"),
        (
            _set("config.json", "hidden_size", "wide"),
            r"config.json describes no .*: hidden_size is 'wide', usually 768",
        ),
        (_set("config.json", "patch_size", -4), r"config.json describes no network: patch_size is -4, usually 16"),
        (_set("config.json", "id2label", ["a", "b"]), r"config.json: id2label is \['a', 'b'\], expected names"),
        (_set(PREPROCESSOR, "image_mean", "grey"), r"image_mean is 'grey', expected a list of numbers"),
        (_set(PREPROCESSOR, "image_std", [0.5, 0, 0.5]), r"image_std is .*, expected a list of numbers above 0"),
        (_set(PREPROCESSOR, "size", {"height": "16"}), r"size is {'height': '16'}, expected pixels"),
        (_set(PREPROCESSOR, "resample", 9), r"resample is 9, expected one of 0, 1"),
    ],
)
def test_a_bad_folder_is_one_line(vit: Path, spoil: Callable[[Path], None], error: str) -> None:
    spoil(vit)
    with pytest.raises(InstarError, match=error) as raised:
        built(f"transformers:{vit}", weights="own", class_names=NAMES)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("timm:resnet81", r"unknown network 'timm:resnet81': did you mean resnet18"),
        ("timm:resnet18.nobody", r"no weights of the tag 'nobody'"),
        ("timm:", r"should be timm:NAME"),
        ("torchvision:resnet81", r"unknown network 'torchvision:resnet81': did you mean resnet18"),
        (
            "transformers:nowhere",
            r"there is no folder nowhere; expected one with config.json and model.safetensors",
        ),
        ("transformers:./nowhere", r"there is no folder nowhere"),
        (
            "transformers:no/where",
            r"config.json of no/where is neither fetched \(.*\) nor in the hub's cache .*: put",
        ),
        ("timm:no/where", r"config.json of no/where is neither fetched \(.*\) nor in the hub's cache .*: put"),
        ("timm:test_resnet@pretrained", r"neither fetched \(.*\) nor on this machine: .* timm:test_resnet@FILE"),
        ("timm:test_resnet@nowhere.pth", r"no weights file at nowhere.pth"),
        (
            "torchvision:shufflenet_v2_x0_5@pretrained",
            r"neither fetched .*: get https://.*pth \(into .*checkpoints\) .*@FILE",
        ),
    ],
)
def test_a_bad_name_is_one_line(
    cache: Path, tmp_path: Path, spec: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=error) as raised:
        built(spec)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("spec", ["timm:test_resnet@pretrained", "transformers:no/where"])
def test_a_hub_that_cannot_be_reached_is_a_line_within_seconds(
    cache: Path, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client by itself tries again for half a minute."""
    import huggingface_hub

    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", nobody)
    started = time.monotonic()
    with pytest.raises(
        UsageError, match=rf"neither fetched \({nobody} cannot be reached: .*(@FILE|give its path)$"
    ):
        built(spec)
    assert time.monotonic() - started < 15
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_what_is_no_picture_is_refused_and_so_is_a_dropout(vit: Path) -> None:
    with pytest.raises(UsageError, match=r"needs pictures \(channels, height, width\).*; an example is 8"):
        build_network("timm:test_resnet", input_shape=(8,), num_classes=3, seed=0)
    with pytest.raises(UsageError, match="the library of network 'timm:test_resnet' decides its dropout"):
        built("timm:test_resnet", dropout=0.5)
    with pytest.raises(DataError, match="another architecture than timm:test_vit"):
        built(f"timm:test_vit@{vit / 'model.safetensors'}")


def test_torchvision_is_imported_beside_a_torch_of_another_build() -> None:
    import torchvision.transforms

    models()
    assert torchvision.transforms.Resize(4)(PICTURES).shape == (4, 3, 4, 4)
    boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1)
    if not torchvision.extension._has_ops():  # the operator is declared, and still not there
        with pytest.raises((RuntimeError, NotImplementedError)):
            torchvision.ops.nms(boxes, scores, 0.5)
