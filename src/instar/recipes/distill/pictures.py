"""The pictures of the page of `instar distill`: what the teacher finds alike, and where the student differs."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from instar.losses import ensemble_soft_targets
from instar.recipes.distill.plan import DISTILLED
from instar.recipes.distill.recipe import Trial, wrong_of
from instar.recipes.distill.settings import DistillConfig
from instar.recipes.fitting import load_splits
from instar.reports import Images, Picture, Section, Share, Table, Text

NUM_PICTURES = 8


def disagreements(config: DistillConfig, trial: Trial, teacher_logits: Tensor) -> list[Section]:
    """Examples where the first distilled student and the teacher say different things, the surest first."""
    student = trial.student_logits[DISTILLED][0]
    differ = (student.argmax(-1) != teacher_logits.argmax(-1)).nonzero().flatten()
    if not len(differ):
        return [Text("Teacher and student agree on every test example.", title="Where they disagree")]
    surest = differ[student[differ].softmax(-1).max(-1).values.argsort(descending=True)][:NUM_PICTURES]
    names = load_splits(config.data).class_names
    words = [
        f"{names[int(trial.labels[row])]}: teacher {names[int(teacher_logits[row].argmax())]}, "
        f"student {names[int(student[row].argmax())]}"
        for row in surest
    ]
    caption = f"{len(differ)} test examples; true class first. Those where the student is surest are shown."
    return _pictures("Where teacher and student disagree", config, surest, words, [()] * len(words), caption)


def dark_knowledge(config: DistillConfig, trial: Trial, member_logits: Tensor) -> list[Section]:
    """Which wrong classes the teacher finds alike: examples that it gets right, with its soft targets."""
    names = load_splits(config.data).class_names
    temperature = min(trial.chosen[DISTILLED].settings["temperature"], 20.0)  # at infinity all classes are alike
    targets = ensemble_soft_targets(member_logits, temperature, mean=config.ensemble_mean).probs
    right = ~wrong_of(targets, trial.labels)
    rows = []
    for label in range(min(len(names), NUM_PICTURES)):
        of_class = (right & (trial.labels == label)).nonzero().flatten()
        if len(of_class):  # the one with the least sure target tells the most
            rows.append(int(of_class[targets[of_class, label].argmin()]))
    title = "Dark knowledge"
    if not rows:
        return [Text("The teacher gets no test example of the first classes right.", title=title)]
    shares = [
        [
            Share(names[int(index)], float(targets[row, index]), highlight=int(index) == int(trial.labels[row]))
            for index in targets[row].argsort(descending=True)[:4]
        ]
        for row in rows
    ]
    words = [names[int(trial.labels[row])] for row in rows]
    caption = (
        f"The teacher's soft targets at T = {temperature:g} for test examples that it gets right: beside the "
        "class, they say which wrong classes look alike. A label says none of that."
    )
    return _pictures(title, config, torch.tensor(rows), words, shares, caption)


def _pictures(
    title: str,
    config: DistillConfig,
    rows: Tensor,
    words: Sequence[str],
    shares: Sequence[Sequence[Share]],
    caption: str,
) -> list[Section]:
    test = load_splits(config.data).test
    inputs = test.gather(test.ids[rows], 0)
    if inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        table = [
            {"example": word, **{share.name: share.value for share in bars}}
            for word, bars in zip(words, shares, strict=True)
        ]
        return [Table(title, table, caption=caption)]
    low = inputs.amin(dim=(0, 2, 3), keepdim=True)
    high = inputs.amax(dim=(0, 2, 3), keepdim=True)
    pixels = ((inputs - low) / (high - low).clamp(min=1e-6) * 255).byte().permute(0, 2, 3, 1).numpy()
    items = [
        Picture(np.ascontiguousarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture), word, bars)
        for picture, word, bars in zip(pixels, words, shares, strict=True)
    ]
    return [Images(title, items, caption=caption)]
