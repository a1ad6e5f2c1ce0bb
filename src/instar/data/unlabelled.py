"""Unlabelled images of a folder, in the form of other data: a transfer set."""

from collections import Counter
from pathlib import Path

from instar.data.dataset import Dataset
from instar.data.named import MEMORY_BUDGET_BYTES
from instar.data.readers.folder import ImageFolder, find_images, folder_dataset, warn_of_passed_over
from instar.data.readers.images import CHANNELS, IMAGE_SUFFIXES, ImageForm
from instar.errors import UsageError
from instar.losses import NO_LABEL
from instar.structures import is_plain


def unlabelled_pictures(
    folder: str | Path,
    like: Dataset,
    *,
    memory_budget_bytes: int = MEMORY_BUDGET_BYTES,
    progress: bool = True,
) -> Dataset:
    """All images below a folder, resized, cropped and converted to the form of other data, without labels.

    Args:
        folder: searched to any depth; the names of its folders are ignored.
        like: grey or colour images, whose size, mean, std and class names are used.
        memory_budget_bytes: images that take more memory when decoded are streamed from their files.
        progress: draw a bar on stderr.

    Raises:
        DataError: an image that cannot be read.
        UsageError: the folder does not exist or holds no image, or the other data are not images.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from instar.data import load_data
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (20, 30)).save(folder / "photo.png")
        >>> pictures = unlabelled_pictures(folder, load_data("digits").train)
        >>> pictures.gather(pictures.ids, 0).shape, pictures.labels(pictures.ids).tolist()
        (torch.Size([1, 1, 8, 8]), [-1])
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of unlabelled images")
    modes = {channels: mode for mode, channels in CHANNELS.items()}
    if not is_plain(like.example_shape) or len(like.example_shape) != 3 or like.example_shape[0] not in modes:
        raise UsageError(
            f"unlabelled images {folder}: the data has examples of shape {like.example_shape}, which are not "
            "those of images (1 or 3, height, width)"
        )
    passed_over: Counter[str] = Counter()
    files = tuple(find_images(folder, passed_over))
    if not files:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise UsageError(f"{folder}: no images below it ({kinds} are read)")
    warn_of_passed_over(folder, passed_over)
    channels, height, width = like.example_shape
    listing = ImageFolder(folder, files, (NO_LABEL,) * len(files), like.class_names)
    form = ImageForm(modes[channels], height, width, fit=True)
    pictures = folder_dataset(listing, form, memory_budget_bytes=memory_budget_bytes, progress=progress)
    return pictures.normalised_like(like)
