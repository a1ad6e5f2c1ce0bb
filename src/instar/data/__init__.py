"""Data sets, their splits and views, and the order in which networks see them."""

from instar.data.batches import batches
from instar.data.columns import numbered
from instar.data.dataset import Dataset
from instar.data.fetch import fetch
from instar.data.given import GivenData, as_dataset
from instar.data.identity import IdIndex
from instar.data.inspection import Inspection, inspect_folder, inspect_splits
from instar.data.known import KnownData, known_data
from instar.data.mapped import MappedDataset, write_examples
from instar.data.memory import InMemoryDataset
from instar.data.named import Splits, load_data
from instar.data.samplers import Sampler, half_special, id_batches, like_length, shuffled
from instar.data.splits import class_number, stratified_split, transfer_set
from instar.data.streaming import StreamingDataset
from instar.data.tagged import TaggedSequences
from instar.data.texts import seen_by, texts_of
from instar.data.tokens import TokenDataset
from instar.data.unlabelled import unlabelled_pictures
from instar.data.views import Affine, Chain, Elastic, Flip, Jitter, ShiftCrop, Views, parse_views
from instar.data.word_views import DropWords, MaskWords, SwapWords

__all__ = [
    "Affine",
    "Chain",
    "Dataset",
    "DropWords",
    "Elastic",
    "Flip",
    "GivenData",
    "IdIndex",
    "InMemoryDataset",
    "Inspection",
    "Jitter",
    "KnownData",
    "MappedDataset",
    "MaskWords",
    "Sampler",
    "ShiftCrop",
    "Splits",
    "StreamingDataset",
    "SwapWords",
    "TaggedSequences",
    "TokenDataset",
    "Views",
    "as_dataset",
    "batches",
    "class_number",
    "fetch",
    "half_special",
    "id_batches",
    "inspect_folder",
    "inspect_splits",
    "known_data",
    "like_length",
    "load_data",
    "numbered",
    "parse_views",
    "seen_by",
    "shuffled",
    "stratified_split",
    "texts_of",
    "transfer_set",
    "unlabelled_pictures",
    "write_examples",
]
