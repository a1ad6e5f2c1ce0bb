"""Views: pure functions of (view_seed, id, view number)."""

import pytest
import torch
from torch import Tensor

from data_files import random_images
from instar.data import Affine, Chain, Flip, Jitter, ShiftCrop, parse_views
from instar.data.hashing import draws, key_of, keyed_hash
from instar.errors import UsageError

NAMES = [
    "jitter:2",
    "crop:4",
    "flip",
    "affine:12,0.15,0.15,2",
    "elastic:2",
    "crop:4+flip",
    "affine:5,0,0,0.5+elastic:1",
]
IDS = torch.randint(-(2**62), 2**62, (64,), generator=torch.Generator().manual_seed(1))
IMAGES = random_images(64, 3, 12, 10)
BOTH = pytest.mark.parametrize("images", [IMAGES, IMAGES.float() / 255], ids=["uint8", "float32"])


def splitmix64(value: int) -> int:
    """The reference's finaliser in whole numbers of any size."""
    mask = 2**64 - 1
    value &= mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def shifted(image: Tensor, dy: int, dx: int) -> Tensor:
    """A shift with zeros moving in, pixel by pixel."""
    result = torch.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                result[:, y, x] = image[:, y + dy, x + dx]
    return result


def test_the_hash_is_splitmix64_of_key_id_and_counter() -> None:
    golden = 0x9E3779B97F4A7C15
    key = key_of("views", 5)
    ids, views = [3, -7, 2**62], [0, 4, 9]
    expected = [splitmix64(id_ + key + view * golden) for id_, view in zip(ids, views, strict=True)]
    found = keyed_hash(key, torch.tensor(ids), torch.tensor(views))
    assert [value % 2**64 for value in found.tolist()] == expected
    drawn = draws(key, torch.tensor(ids), torch.tensor(views), [0, 6])
    assert drawn.tolist() == [[splitmix64(h + d * golden) >> 33 for d in (0, 6)] for h in expected]


def test_one_view_number_for_all_is_that_number_for_each() -> None:
    key = key_of("views", 5)
    assert torch.equal(keyed_hash(key, IDS, 7), keyed_hash(key, IDS, torch.full_like(IDS, 7)))


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_a_view_is_the_same_whatever_the_batch(name: str, images: Tensor) -> None:
    views = parse_views(name)
    assert views is not None
    numbers = torch.arange(64) % 5
    whole = views.apply(images, IDS, numbers, 3)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(views.apply(images[order], IDS[order], numbers[order], 3), whole[order])
    for size in (1, 7):
        parts = [
            views.apply(images[i : i + size], IDS[i : i + size], numbers[i : i + size], 3)
            for i in range(0, 64, size)
        ]
        assert torch.equal(torch.cat(parts), whole)
    nothing = views.apply(images[:0], IDS[:0], numbers[:0], 3)  # a process's share of a last batch
    assert nothing.shape == images[:0].shape


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_view_0_is_unchanged_bit_for_bit_also_in_a_mixed_batch(name: str, images: Tensor) -> None:
    views = parse_views(name)
    assert views is not None
    numbers = torch.arange(64) % 2
    found = views.apply(images, IDS, numbers, 0)
    assert torch.equal(found[::2].to(images.dtype), images[::2])
    assert not torch.equal(found[1::2].to(images.dtype), images[1::2])
    assert torch.equal(views.apply(images, IDS, 0, 0).to(images.dtype), images)


@pytest.mark.parametrize("name", NAMES)
def test_seed_view_and_id_each_change_the_view(name: str) -> None:
    views = parse_views(name)
    assert views is not None
    base = views.apply(IMAGES, IDS, 1, 0)
    assert torch.equal(views.apply(IMAGES, IDS, 1, 0), base)
    assert not torch.equal(views.apply(IMAGES, IDS, 1, 1), base)
    assert not torch.equal(views.apply(IMAGES, IDS, 2, 0), base)
    assert not torch.equal(views.apply(IMAGES, IDS.flip(0), 1, 0), base)


def test_views_leave_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    Affine(12, 0.15, 0.15, 2).apply(IMAGES, IDS, 1, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_jitter_shifts_by_whole_pixels_uniformly_and_fills_with_background() -> None:
    many = torch.arange(2500)
    image = random_images(1, 2, 6, 7)
    found = Jitter(2).apply(image.expand(2500, -1, -1, -1), many, 1, 0)
    counts = []
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            counts.append(int((found == shifted(image[0], dy, dx)).flatten(1).all(dim=1).sum()))
    assert sum(counts) == 2500
    # 25 shifts, 100 expected of each, sd 9.8: six sd
    assert all(41 <= count <= 159 for count in counts)


def test_crop_shifts_with_the_reflected_border() -> None:
    image = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="reflect")[0]
    windows = [padded[:, y : y + 4, x : x + 4] for y in range(5) for x in range(5)]
    found = ShiftCrop(2).apply(image.expand(400, -1, -1, -1), torch.arange(400), 1, 0)
    seen = {next(i for i, window in enumerate(windows) if torch.equal(window, each)) for each in found}
    assert seen == set(range(25))


def test_flip_mirrors_half_of_the_examples() -> None:
    image = random_images(1, 1, 3, 5)
    found = Flip().apply(image.expand(1000, -1, -1, -1), torch.arange(1000), 1, 0)
    mirrored = (found == image.flip(-1)).flatten(1).all(dim=1)
    assert torch.equal(found[~mirrored], image.expand(int((~mirrored).sum()), -1, -1, -1))
    assert 400 < int(mirrored.sum()) < 600


def test_affine_shift_alone_moves_the_picture_within_its_limit() -> None:
    image = torch.zeros(300, 1, 21, 21)
    image[:, 0, 10, 10] = 1
    found = Affine(0, 0, 0, 3).apply(image, torch.arange(300), 1, 0)
    assert torch.allclose(found.sum(dim=(1, 2, 3)), torch.ones(300), atol=1e-5)  # bilinear weights of one pixel
    y = (found.sum(dim=(1, 3)) * torch.arange(21)).sum(dim=1) - 10
    x = (found.sum(dim=(1, 2)) * torch.arange(21)).sum(dim=1) - 10
    for axis in (y, x):
        assert float(axis.abs().max()) <= 3.0001
        assert float(axis.max()) > 2.5
        assert float(axis.min()) < -2.5
    assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) < 0.25


def test_affine_rotation_alone_keeps_distances_to_the_centre() -> None:
    image = torch.zeros(200, 1, 41, 41)
    image[:, 0, 20, 32] = 1  # 12 pixels to the right of the centre
    found = Affine(90, 0, 0, 0).apply(image, torch.arange(200), 1, 0)
    mass = found.sum(dim=(1, 2, 3))
    y = (found.sum(dim=(1, 3)) * torch.arange(41)).sum(dim=1) / mass - 20
    x = (found.sum(dim=(1, 2)) * torch.arange(41)).sum(dim=1) / mass - 20
    assert torch.allclose(torch.hypot(x, y), torch.full((200,), 12.0), atol=0.5)
    angles = torch.rad2deg(torch.atan2(y, x))
    assert float(angles.min()) < -75
    assert float(angles.max()) > 75


@pytest.mark.parametrize("name", NAMES)
def test_names_make_the_same_views_again(name: str) -> None:
    views = parse_views(name)
    assert views is not None
    assert views.name == name
    assert parse_views(views.name) == views


def test_none_is_no_views() -> None:
    assert parse_views("none") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("jiter:2", "did you mean jitter"),
        ("", "unknown view ''"),
        ("none+flip", "unknown view 'none'"),
        ("jitter", "should be jitter:PIXELS"),
        ("jitter:two", "should be jitter:PIXELS"),
        ("jitter:1,2", "should be jitter:PIXELS"),
        ("jitter:0", "an integer from 1"),
        ("crop:-3", "an integer from 1"),
        ("flip:1", "should be flip"),
        ("affine:1,2", "should be affine:DEGREES,SCALE,SHEAR,SHIFT"),
        ("affine:0,0,0,0", "changes nothing"),
        ("elastic:0", "0.0 pixels"),
        ("elastic:x", "should be elastic:PIXELS"),
        ("affine:nan,0,0,1", "degrees nan"),
        ("affine:10,1,0,0", "scale 1.0"),
        ("affine:10,0,inf,0", "shear inf"),
        ("flip+flip", "one kind twice"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_views(text)
    assert "\n" not in str(caught.value)


def test_views_of_what_is_no_image_are_refused() -> None:
    with pytest.raises(UsageError, match="need images"):
        Jitter(1).apply(torch.zeros(2, 8), IDS[:2], 1, 0)
    with pytest.raises(UsageError, match="more than 12 pixels, found 12x10"):
        ShiftCrop(12).apply(IMAGES, IDS, 1, 0)


def test_a_chain_draws_independently_for_each_part() -> None:
    """Whether an example is mirrored says nothing of where it is shifted."""
    image = torch.zeros(2000, 1, 9, 9, dtype=torch.uint8)
    image[:, 0, 4, 4], image[:, 0, 4, 5] = 1, 2
    found = Chain((Jitter(2), Flip())).apply(image, torch.arange(2000), 1, 0)
    brightest = found.flatten(1).argmax(dim=1)
    other = (found == 1).flatten(1).int().argmax(dim=1)
    mirrored = brightest < other
    rows = torch.div(brightest, 9, rounding_mode="floor")
    for row in range(2, 7):
        share = float(mirrored[rows == row].float().mean())
        assert 0.35 < share < 0.65
