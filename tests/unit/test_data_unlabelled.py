"""Pictures of a folder in the form of other data, without labels."""

from pathlib import Path

import pytest
import torch

from data_files import image_bytes, random_images, write_image_folder
from instar.data import InMemoryDataset, Splits, load_data, unlabelled_pictures
from instar.errors import DataError, DataWarning, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures at three depths, among other files."""
    images = random_images(6, 3, 9, 7)
    for number, place in enumerate((".", ".", "a", "a", "a/b", "a/b")):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / f"{number}.png").write_bytes(image_bytes(images[number]))
    (tmp_path / ".hidden.png").write_text("no picture")
    return tmp_path


def like(*shape: int, mean: float = 0.5) -> InMemoryDataset:
    channels = shape[0]
    inputs = random_images(4, *shape)
    normal = {"mean": [mean] * channels, "std": [0.25] * channels}
    return InMemoryDataset(inputs, torch.tensor([0, 1, 0, 1]), class_names=["cat", "dog"], **normal)


def test_all_pictures_at_any_depth_without_a_label(folder: Path) -> None:
    pictures = unlabelled_pictures(folder, like(3, 9, 7))
    assert len(pictures) == 6
    assert pictures.class_names == ("cat", "dog")
    assert pictures.labels(pictures.ids).tolist() == [-1] * 6


def test_values_are_normalised_as_the_other_datas(folder: Path) -> None:
    pictures = unlabelled_pictures(folder, like(3, 9, 7))
    expected = (random_images(6, 3, 9, 7).float() / 255 - 0.5) / 0.25
    found = pictures.gather(pictures.ids, 0)
    assert torch.allclose(found, expected, atol=1e-6)  # the paths are in the order of the numbers


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 8)])
def test_form_is_the_other_datas(folder: Path, shape: tuple[int, ...]) -> None:
    pictures = unlabelled_pictures(folder, like(*shape))
    assert pictures.gather(pictures.ids, 0).shape == (6, *shape)


def test_streams_where_memory_is_short_and_gives_the_same(folder: Path) -> None:
    whole = unlabelled_pictures(folder, like(3, 4, 4))
    streamed = unlabelled_pictures(folder, like(3, 4, 4), memory_budget_bytes=1)
    assert whole.in_memory
    assert not streamed.in_memory
    assert streamed.fingerprint == whole.fingerprint
    assert torch.equal(streamed.gather(whole.ids, 0), whole.gather(whole.ids, 0))


def test_fits_a_folder_of_classes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    labelled = write_image_folder(tmp_path_factory.mktemp("labelled"), per_class=10)
    splits: Splits = load_data(f"folder:{labelled}")
    pictures = unlabelled_pictures(folder, splits.train)
    assert pictures.example_shape == splits.train.example_shape


def test_files_that_are_no_pictures_by_their_name_are_counted(folder: Path) -> None:
    (folder / "a" / "notes.txt").write_text("no picture")
    with pytest.warns(DataWarning, match=r"not read: \.txt files \(1\)"):
        assert len(unlabelled_pictures(folder, like(3, 9, 7))) == 6


def test_what_is_no_picture_is_refused(folder: Path, tmp_path: Path) -> None:
    vectors = InMemoryDataset(torch.rand(4, 8), torch.tensor([0, 1, 0, 1]), class_names=["a", "b"])
    with pytest.raises(UsageError, match="not those of images"):
        unlabelled_pictures(folder, vectors)
    standardised = InMemoryDataset(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), class_names=["a", "b"])
    with pytest.raises(UsageError, match="from 0 to 1"):
        unlabelled_pictures(folder, standardised)
    (folder / "a" / "broken.png").write_text("words")
    with pytest.raises(DataError, match=r"broken\.png"):
        unlabelled_pictures(folder, like(3, 4, 4))
    with pytest.raises(UsageError, match="no such folder"):
        unlabelled_pictures(folder / "nowhere", like(3, 4, 4))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images below"):
        unlabelled_pictures(tmp_path / "empty", like(3, 4, 4))
