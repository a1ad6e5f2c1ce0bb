"""A linear model of weighted counts of words, as a teacher: the job that fits it, and the one that asks it."""

import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar.data import Dataset, texts_of
from instar.evaluation import predict_logits
from instar.files import write_bytes
from instar.jobs import Job
from instar.naming import import_extra
from instar.networks import read_teacher
from instar.recipes.fitting import LOGITS, LOGITS_OF
from instar.recipes.settings import Count, DataSettings, Settings, TransferSettings
from instar.recipes.splits import about_data, load_splits, splits_of, training_data
from instar.recipes.teacher_answers import logits_file
from instar.runs import Run

MODEL = "model.skops"
_TIMED = 50  # texts


class TfidfSettings(Settings):
    """How the linear model is built and fitted."""

    most_features: Count = 10_000
    """words and pairs of words, the commonest"""
    inverse_strength: float = 10.0
    """C of the logistic regression: large is little regularisation"""
    rounds: Count = 100
    """of its solver at most"""


def tfidf_jobs(name: str, settings: TfidfSettings, data: DataSettings, transfer: TransferSettings) -> list[Job]:
    """The job that fits the model on a part of the training texts, and the one that stores its logits."""
    about = {**about_data(data), "class_names": list(load_splits(data).class_names)}
    config = {**about, "tfidf": settings.model_dump(), "transfer": transfer.model_dump(exclude_defaults=True)}
    asked = functools.partial(_write_logits, name=name)
    return [Job(name, _fit, config), Job(name + LOGITS_OF, asked, {**about, "model": name}, (name,))]


def _fit(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    settings = TfidfSettings(**run.config["tfidf"])
    data = training_data(splits_of(run.config), TransferSettings(**run.config["transfer"]))
    names = [data.class_names[label] for label in data.labels(data.ids).tolist()]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=settings.most_features)
    model = LogisticRegression(C=settings.inverse_strength, max_iter=settings.rounds, tol=1e-3)
    pipeline = make_pipeline(words, model).fit(texts_of(data), names)
    write_bytes(run.path / MODEL, import_extra("skops.io", "skops").dumps(pipeline))
    return {"num_weights": int(model.coef_.size + model.intercept_.size)}


def _write_logits(run: Run, needs: Mapping[str, Path], *, name: str) -> dict[str, Any]:
    splits = splits_of(run.config)
    network = load_tfidf(needs[name], splits.train)
    parts = [splits.train, splits.validation]
    write_bytes(run.path / LOGITS, logits_file(parts, [predict_logits(network, part) for part in parts]))
    return {}


def load_tfidf(path: Path, data: Dataset) -> nn.Module:
    """The model of a job, as a network that reads texts."""
    return read_teacher(f"sklearn:{path / MODEL}", class_names=data.class_names, example_shape=data.example_shape)


def latency_of(path: Path, data: Dataset) -> float:
    """Milliseconds for one text, the median."""
    io = import_extra("skops.io", "skops")
    model = io.load(path / MODEL, trusted=io.get_untrusted_types(file=path / MODEL))
    times = []
    for text in texts_of(data)[:_TIMED]:
        started = time.perf_counter()
        model.predict_proba([text])
        times.append(time.perf_counter() - started)
    return round(1000 * sorted(times)[len(times) // 2], 4)


def mean_logits(members: Sequence[Tensor]) -> Tensor:
    """Logits whose softmax is the mean of the members' probabilities."""
    probs = torch.stack([torch.softmax(one, -1) for one in members]).mean(0)
    return probs.clamp(min=torch.finfo(probs.dtype).tiny).log()
