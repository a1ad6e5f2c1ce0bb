"""Data sets by name: where they are looked for, how they are cut, and what each holds."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from sklearn import datasets

import data_files
from data_files import CIFAR10_NAMES, CIFAR100_NAMES, cifar_archive, random_images, write_mnist, write_table
from instar.data import InMemoryDataset, Splits, known_data, load_data
from instar.data.official import channel_statistics, load_digits
from instar.data.sources import SOURCES, TEXT_SOURCES, Source, cache_folder, find, obtain
from instar.errors import DataError, DataWarning, UsageError
from instar.identity import first_difference
from instar.naming import TEXT_NAMES

REAL_DATA = os.environ.get("INSTAR_DATA")


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An INSTAR_DATA and a cache of this test's own."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("INSTAR_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A real server of the files under tmp_path/served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_digits_are_those_that_scikit_learn_loads() -> None:
    values, labels = datasets.load_digits(return_X_y=True)
    ours = load_digits()
    assert ours.gather(ours.ids, 0).flatten(1).numpy().tolist() == (values / 16).tolist()
    assert ours.labels(ours.ids).tolist() == labels.tolist()


def test_digits_need_no_file_and_their_test_is_fixed() -> None:
    splits = load_data("digits")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [1295, 143, 359]
    values = splits.train.gather(splits.train.ids, 0)
    assert (float(values.min()), float(values.max())) == (0.0, 1.0)
    assert splits.class_names == tuple("0123456789")
    other = load_data("digits", split_seed=1, validation_fraction=0.2)
    assert other.test.fingerprint == splits.test.fingerprint
    assert other.validation.fingerprint != splits.validation.fingerprint
    assert other.fingerprint != splits.fingerprint == load_data("digits").fingerprint
    parts = [set(part.ids.tolist()) for part in (splits.train, splits.validation, splits.test)]
    assert len(set.union(*parts)) == 1797


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_data_sets_are_found_and_cut(tmp_path: Path, name: str, packed: bool) -> None:
    write_mnist(tmp_path / "data" / name, packed=packed)
    splits = load_data(name)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [50, 10, 20]
    assert splits.train.example_shape == (1, 28, 28)
    assert splits.class_names[9] == ("9" if name == "mnist" else "Ankle boot")
    expected = random_images(20, 1, 28, 28, seed=1)
    assert torch.equal(splits.test.gather(splits.test.ids, 0), expected.float() * (1 / 255))
    assert torch.equal(splits.test.labels(splits.test.ids), torch.arange(20) % 10)


def test_cifar10_is_the_same_from_its_archive_and_from_tables(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar10"
    folder.mkdir()
    (folder / "cifar-10-binary.tar.gz").write_bytes(cifar_archive(hundred=False))
    archive = load_data("cifar10")
    (folder / "cifar-10-binary.tar.gz").unlink()
    train = torch.cat([random_images(20, 3, 32, 32, seed=seed) for seed in (0, 1)])
    write_table(folder / "train.parquet", train, [row % 10 for row in range(40)], CIFAR10_NAMES)
    test = random_images(20, 3, 32, 32, seed=2)
    write_table(folder / "test.parquet", test, [row % 10 for row in range(20)], CIFAR10_NAMES)
    tables = load_data("cifar10")
    assert tables.fingerprint == archive.fingerprint
    ids = archive.train.ids
    assert torch.equal(tables.train.gather(ids, 0), archive.train.gather(ids, 0))


def test_cifar_is_normalised_by_the_training_set(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar100"
    folder.mkdir()
    (folder / "cifar-100-binary.tar.gz").write_bytes(cifar_archive(hundred=True, per_class=4))
    splits = load_data("cifar100", validation_fraction=0.25)
    assert splits.class_names == CIFAR100_NAMES
    both = [part.gather(part.ids, 0) for part in (splits.train, splits.validation)]
    values = torch.cat(both).double().transpose(0, 1).flatten(1)
    assert torch.allclose(values.mean(dim=1), torch.zeros(3, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(values.std(dim=1, correction=0), torch.ones(3, dtype=torch.float64), atol=1e-5)


def test_channel_statistics_are_those_of_the_pixels() -> None:
    images = random_images(50, 2, 6, 5)
    images[:, 1] = 51
    mean, std = channel_statistics(images)
    pixels = images[:, 0].double() / 255
    assert torch.allclose(mean, torch.stack([pixels.mean(), torch.tensor(0.2, dtype=torch.float64)]), atol=1e-12)
    assert torch.allclose(std[0], pixels.std(correction=0), atol=1e-12)
    assert float(std[1]) == 1.0  # of a channel that never changes: nothing to divide by


def test_tables_are_decoded_once(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar10"
    images = random_images(40, 3, 32, 32)
    for part in ("train", "test"):
        write_table(folder / f"{part}.parquet", images, [row % 10 for row in range(40)], CIFAR10_NAMES)
    first = load_data("cifar10")
    copies = list((tmp_path / "cache" / "decoded").iterdir())
    digest = hashlib.sha256((folder / "train.parquet").read_bytes()).hexdigest()
    assert [copy.name for copy in copies] == [f"{digest}-1.safetensors"]  # both tables have the same content
    assert load_data("cifar10").fingerprint == first.fingerprint
    copies[0].write_bytes(copies[0].read_bytes()[:1000])
    assert load_data("cifar10").fingerprint == first.fingerprint
    assert copies[0].stat().st_size > 40 * 3072  # a broken copy is made anew
    write_table(folder / "train.parquet", images.flip(0), [row % 10 for row in range(40)], CIFAR10_NAMES)
    assert load_data("cifar10").fingerprint != first.fingerprint  # other content never meets an old copy


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "file"))
    for part in ("train", "test"):
        images = random_images(40, 3, 32, 32)
        labels = [row % 10 for row in range(40)]
        write_table(tmp_path / "data" / "cifar10" / f"{part}.parquet", images, labels, CIFAR10_NAMES)
    assert len(load_data("cifar10").test) == 40


def test_half_a_data_set_is_refused_by_the_name_of_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar10"
    write_table(folder / "test.parquet", random_images(10, 3, 32, 32), list(range(10)), CIFAR10_NAMES)
    with pytest.raises(DataError, match=r"lacks train\.parquet \(or cifar-10-binary\.tar\.gz\)") as caught:
        load_data("cifar10")
    assert str(folder) in str(caught.value)
    (write_mnist(tmp_path / "data" / "mnist") / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"lacks t10k-labels-idx1-ubyte\.gz; add it"):
        load_data("mnist")


def small_source(folder: Path, *, wrong: bool = False) -> Source:
    """MNIST's files as a small data set of their own, with their checksums."""
    files = sorted(write_mnist(folder).iterdir())
    checksums = {file.name: hashlib.md5(b"" if wrong else file.read_bytes()).hexdigest() for file in files}
    return Source("small", "for tests", "http://127.0.0.1:9/nobody-is-here/", checksums)


def test_what_is_nowhere_is_fetched_once_into_the_cache(tmp_path: Path, mirror: str) -> None:
    source = small_source(tmp_path / "served" / "folder")
    assert find(source) is None
    folder, files = obtain(source, base_url=f"{mirror}/folder/", progress=False)
    assert folder == tmp_path / "cache" / "small"
    assert sorted(path.name for path in folder.iterdir()) == sorted(files) == sorted(source.files)
    assert obtain(source, base_url="http://127.0.0.1:9/", progress=False) == (folder, files)


def test_a_fetch_that_was_broken_off_goes_on_with_the_missing_files(tmp_path: Path, mirror: str) -> None:
    source = small_source(tmp_path / "served")
    folder, files = obtain(source, base_url=mirror, progress=False)
    kept = folder / files[0]
    changed = kept.stat().st_mtime_ns
    (folder / files[1]).unlink()
    obtain(source, base_url=mirror, progress=False)
    assert (folder / files[1]).is_file()
    assert kept.stat().st_mtime_ns == changed


def test_another_checksum_than_the_publishers_is_refused(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(DataError, match="md5"):
        obtain(small_source(tmp_path / "served", wrong=True), base_url=mirror, progress=False)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    write_mnist(tmp_path / "served")
    with pytest.raises(DataError, match="instead of f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        load_data("mnist", base_url=mirror, progress=False)


def test_with_no_network_the_error_says_which_file_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_data("cifar100", base_url="http://127.0.0.1:9/x", progress=False)
    path = tmp_path / "cache" / "cifar100" / "cifar-100-binary.tar.gz"
    assert f"put it at {path}" in str(caught.value)
    assert "http://127.0.0.1:9/x/cifar-100-binary.tar.gz" in str(caught.value)


def test_instar_data_comes_before_the_cache(tmp_path: Path) -> None:
    write_mnist(tmp_path / "cache" / "mnist")
    assert find(SOURCES["mnist"]) == (tmp_path / "cache" / "mnist", tuple(SOURCES["mnist"].files))
    write_mnist(tmp_path / "data" / "mnist")
    assert find(SOURCES["mnist"]) == (tmp_path / "data" / "mnist", tuple(SOURCES["mnist"].files))


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("INSTAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "instar"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "instar"


def test_instar_data_that_is_no_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_DATA", str(tmp_path / "absent"))
    with pytest.raises(UsageError, match="absent is not a folder"):
        load_data("mnist")
    assert len(load_data("digits").test) == 359


def test_the_list_of_data_sets_says_what_is_here(tmp_path: Path) -> None:
    write_mnist(tmp_path / "data" / "mnist")
    (tmp_path / "data" / "cifar10").mkdir()
    (tmp_path / "data" / "cifar10" / "test.parquet").write_bytes(b"")
    where = {data.name: data.where for data in known_data()}
    assert where["mnist"] == str(tmp_path / "data" / "mnist")
    assert where["cifar10"] is where["fashion-mnist"] is None
    assert {"digits", "cifar100", "folder:PATH", "python:MODULE:FUNCTION"} < set(where)
    assert all(data.what and data.publisher for data in known_data())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mnits", "did you mean mnist"),
        ("cifar", "did you mean cifar10"),
        ("", "unknown data set ''"),
        ("MNIST", "unknown data set 'MNIST'"),
        ("python:json", "python:MODULE:FUNCTION"),
        ("python:no_such_module_here:f", "cannot import"),
        ("python:json:nothing", "no function"),
    ],
)
def test_an_unknown_name_is_refused(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_data(name)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0])
def test_a_validation_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        load_data("digits", validation_fraction=fraction)


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_idx_files_that_do_not_fit_each_other_are_refused(tmp_path: Path, part: str) -> None:
    folder = write_mnist(tmp_path / "data" / "mnist", packed=False)
    images, labels = folder / f"{part}-images-idx3-ubyte", folder / f"{part}-labels-idx1-ubyte"
    whole = labels.read_bytes()
    for array, path, says in (
        (torch.zeros(5, dtype=torch.uint8), labels, "5 labels for the"),
        (
            torch.full((60 if part == "train" else 20,), 10, dtype=torch.uint8),
            labels,
            "label 10, but there are 10",
        ),
        (random_images(60, 28, 27), images, "expected images of 28x28, found an array of 60x28x27"),
        (random_images(0, 28, 28), images, "expected images of 28x28, found an array of 0x28x28"),
    ):
        labels.write_bytes(whole)
        path.write_bytes(data_files.idx_bytes(array))
        with pytest.raises(DataError, match=says) as caught:
            load_data("mnist")
        assert str(path) in str(caught.value)


def in_module(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Splits]:
    """Load what a user's own module returns."""
    monkeypatch.chdir(folder)
    module = f"users_{hashlib.md5(str(folder).encode()).hexdigest()[:8]}"
    (folder / f"{module}.py").write_text(f"import torch\nfrom instar.data import InMemoryDataset, Splits\n{body}")
    monkeypatch.syspath_prepend(str(folder))
    return lambda function: load_data(f"python:{module}:{function}")


USERS = """
x = torch.arange(60, dtype=torch.float32).view(20, 3)
y = torch.arange(20) % 2
def data(**options):
    return InMemoryDataset(x, y, class_names=options.get("names", ["a", "b"]))
def pairs(): return (x, y), (x[:6], y[:6])
def sets(): return data(), data()
def splits(): return Splits(data(), data(), data())
def names(): return data(), data(names=["b", "a"])
def shape(): return (x, y), (x[:, :2], y)
def nothing(): return None
def three(): return 1, 2, 3
def tensors(): return x, y
def nan(): return (x / 0 * 0, y), (x, y)
def crash(): return 1 / 0
"""


@pytest.mark.filterwarnings("ignore:.*byte-identical")
def test_a_users_function_gives_splits_data_sets_or_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = in_module(tmp_path, USERS, monkeypatch)
    assert [len(part) for part in (load("pairs").train, load("pairs").validation, load("pairs").test)] == [
        18,
        2,
        6,
    ]
    assert load("pairs").class_names == ("0", "1")
    assert len(load("sets").test) == 20
    assert load("splits").class_names == ("a", "b")
    assert load("splits").name.endswith(":splits")
    assert len(load("splits").train) == len(load("splits").validation) == 20


NORMALISED = """
x, y = torch.arange(60, dtype=torch.float32).view(20, 3), torch.arange(20) % 2
def data(**options):
    one = InMemoryDataset(x, y, class_names=["a", "b"], **options)
    return one, one
def plain(): return data()
def scaled(): return data(scale=0.5)
def centred(): return data(mean=[1, 2, 3])
def deviating(): return data(std=[1, 2, 3])
def in_training(): return data(mean=[1, 2, 3])[0], data()[0]
"""


@pytest.mark.filterwarnings("ignore:.*byte-identical")
def test_the_identity_of_data_knows_its_normalisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = in_module(tmp_path, NORMALISED, monkeypatch)
    names = ("plain", "scaled", "centred", "deviating", "in_training")
    known = {name: load(name).identity for name in names}
    for one in names:
        for other in names:
            is_same = first_difference(known[one], known[other]) is None
            assert is_same == (one == other)
    assert len({load(name).fingerprint for name in names}) == 1
    assert first_difference(load("centred").identity, known["centred"]) is None


@pytest.mark.parametrize(
    ("function", "error", "says"),
    [
        ("names", DataError, r"class_names of the test data: expected \('a', 'b'\), found \('b', 'a'\)"),
        ("shape", DataError, "example_shape of the test data"),
        ("nothing", UsageError, "should return Splits, or training and test data; found NoneType"),
        ("three", UsageError, "found 3 things"),
        ("tensors", UsageError, "training and test data, each a pair"),
        ("nan", DataError, "NaN or infinity"),
        ("crash", DataError, "the function failed with ZeroDivisionError"),
    ],
)
def test_a_users_function_that_gives_something_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: type[Exception], says: str
) -> None:
    load = in_module(tmp_path, USERS, monkeypatch)
    with pytest.raises(error, match=says) as caught:
        load(function)
    assert function in str(caught.value)
    assert "\n" not in str(caught.value)


OWN_IDS = """
x = torch.arange(60, dtype=torch.float32).view(20, 3)
x[10:] = x[:10]  # each twice
y, ids = torch.arange(20) % 2, torch.arange(20)
def data(first): return InMemoryDataset(x, y, class_names=["a", "b"], ids=ids + first)
def same(): return data(0), data(100)
def other():
    return data(0), InMemoryDataset(x + 1, y, class_names=["a", "b"], ids=ids)
"""


def test_copies_are_known_by_their_content_whatever_ids_a_user_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = in_module(tmp_path, OWN_IDS, monkeypatch)
    with pytest.warns(DataWarning, match="of 20 test examples are byte-identical to") as caught:
        splits = load("same")
    counts = [(str(one.message).split()[1], str(one.message).split(" to ")[1].split()[0]) for one in caught]
    assert counts == [("16", "training"), ("4", "validation")]
    validation = splits.validation.gather(splits.validation.ids, 0)
    training = splits.train.gather(splits.train.ids, 0)
    assert not (validation[:, None] == training[None]).all(2).any()
    load("other")  # the same ids, and other examples: no warning


def test_splits_of_different_classes_are_refused() -> None:
    images = random_images(4, 1, 2, 2)
    one, other = (InMemoryDataset(images, None, class_names=names) for names in (("a", "b"), ("b", "a")))
    with pytest.raises(DataError, match="class_names of the validation data"):
        Splits(one, other, one)


needs = partial(pytest.mark.skipif, not REAL_DATA, reason="INSTAR_DATA is not set")


@needs()
def test_mnist_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_DATA", str(REAL_DATA))
    if find(SOURCES["mnist"]) is None:
        pytest.skip("mnist is neither in INSTAR_DATA nor in the cache")
    splits = load_data("mnist")
    assert len(splits.train) + len(splits.validation) == 60_000
    counts = torch.bincount(splits.test.labels(splits.test.ids)).tolist()
    assert counts == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    mean = splits.test.gather(splits.test.ids, 0).mean()
    assert abs(float(mean) - 0.1325) < 0.0001


@needs()
def test_cifar100_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from instar.data.readers.images import ImageForm
    from instar.data.readers.parquet import read_image_table

    path = Path(str(REAL_DATA)) / "cifar100" / "test.parquet"
    if not path.is_file():
        pytest.skip("cifar100 is not in INSTAR_DATA as Parquet")
    found = read_image_table(path, label_column="fine_label", form=ImageForm("RGB", 32, 32), progress=False)
    assert torch.bincount(found.labels).tolist() == [100] * 100
    assert found.class_names[:3] == ("apple", "aquarium_fish", "baby")


def test_the_names_of_texts_are_known_without_reading_data() -> None:
    assert set(TEXT_NAMES) == set(TEXT_SOURCES)
