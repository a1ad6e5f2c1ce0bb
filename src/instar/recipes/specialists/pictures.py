"""The pictures of the page of `instar specialists`: class sets, and examples with three opinions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.data import Dataset
from instar.recipes.fitting import load_splits
from instar.recipes.specialists.jobs import UNIT
from instar.recipes.specialists.plan import GENERALIST, WITH, Choice, Plan
from instar.recipes.specialists.scoring import Trial
from instar.reports import Images, Picture, Section, Share, Table, Text
from instar.specialists import SpecialistEnsemble, active_specialists

_MOST_SETS, _MOST_CLASSES, _NUM_EXAMPLES, _NUM_SHARES = 12, 16, 6, 4
_EMPTY = 255  # between pictures


def class_set_sections(plan: Plan, trial: Trial) -> list[Section]:
    """The class sets of the first generalist as a table, as the paper's table 2, and a picture of each class."""
    sets = trial.class_sets[0]
    rows = [
        {"set": f"{number + 1}, of {len(one)}", "classes": _listed(one.names, _MOST_CLASSES)}
        for number, one in enumerate(sets[:_MOST_SETS])
    ]
    more = f" The first {_MOST_SETS} of {len(sets)}." if len(sets) > _MOST_SETS else ""
    sections: list[Section] = [
        Table(
            "Class sets",
            rows,
            caption="Which classes the first generalist confuses: clusters of the columns of the covariance of "
            f"its predictions; no label was looked at.{more}",
        )
    ]
    data = load_splits(plan.config.data).train
    labels = data.labels(data.ids)
    items = []
    for number, one in enumerate(sets[:_MOST_SETS]):
        ids = torch.stack([data.ids[(labels == k).nonzero()[0, 0]] for k in one.classes[:_MOST_CLASSES]])
        strip = pixels_of(data, ids)
        if strip is None:
            return sections
        items.append(Picture(_grid(strip), f"set {number + 1}: {_listed(one.names, 3)}"))
    return [*sections, Images("A picture of each class", items, wide=True)]


def _listed(names: Sequence[str], most: int) -> str:
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def _grid(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures in rows, about as many as each row has; what is left of the last one is empty."""
    columns = math.ceil(math.sqrt(len(pictures)))
    framed = [
        np.pad(one, [(1, 1), (1, 1), *[(0, 0)] * (one.ndim - 2)], constant_values=_EMPTY) for one in pictures
    ]
    framed += [np.full_like(framed[0], _EMPTY)] * (-len(pictures) % columns)
    rows = [np.concatenate(framed[start : start + columns], 1) for start in range(0, len(framed), columns)]
    return np.concatenate(rows, 0)


def three_opinions(plan: Plan, choice: Choice, trial: Trial) -> list[Section]:
    """Examples that specialists made right, and one that they made wrong: what each says of the top classes."""
    before, after = (trial.probs[row][0] for row in (GENERALIST, WITH))
    right = [probs.argmax(1) == trial.labels for probs in (before, after)]
    mended, broken = (~right[0] & right[1]).nonzero().flatten(), (right[0] & ~right[1]).nonzero().flatten()
    title = "Before, the specialist, and together"
    if not len(mended) and not len(broken):
        return [Text("The specialists change no answer of the first generalist on test.", title=title)]
    gain = (after - before).gather(1, trial.labels[:, None])[:, 0]
    chosen = [*mended[gain[mended].argsort(descending=True)][: _NUM_EXAMPLES - 1].tolist(), *broken[:1].tolist()]
    test = load_splits(plan.config.data).test
    ids = test.ids[torch.tensor(chosen)]
    together = SpecialistEnsemble.load(plan.job_path(plan.unit(plan.seeds[0])) / UNIT)
    asked = active_specialists(before[chosen], together.class_sets, top_n=choice.top_n)
    pictures = pixels_of(test, ids)
    items, rows = [], []
    for place, row in enumerate(chosen):
        number = int(asked[place].int().argmax())
        shares = _shares(before, row, test, "generalist")
        shares += _specialist_shares(together, number, test, ids[place])
        shares += _shares(after, row, test, "together")
        for share in shares:
            share_row = {"example": test.class_names[int(trial.labels[row])], "says": share.name}
            rows.append({**share_row, "probability": share.value})
        if pictures is not None:
            label = int(trial.labels[row])
            outcome = "mended" if bool(right[1][row]) else "broken"
            words = f"{test.class_names[label]} ({outcome}); {_asked(int(asked[place].sum()))}"
            items.append(
                Picture(pictures[place], words, [_marked(share, test.class_names[label]) for share in shares])
            )
    caption = (
        f"Of the first generalist's test examples {len(mended)} were mended and {len(broken)} broken. The true "
        f"class is marked; of several specialists that were asked the first is shown."
    )
    return [Images(title, items, caption=caption, wide=True)] if items else [Table(title, rows, caption=caption)]


def _asked(number: int) -> str:
    return f"{number} specialist{'s' if number > 1 else ''} asked"


def _shares(probs: Tensor, row: int, data: Dataset, who: str) -> list[Share]:
    top = probs[row].topk(min(_NUM_SHARES, probs.shape[1]))
    return [
        Share(f"{who}: {data.class_names[int(number)]}", min(1.0, float(value)))
        for value, number in zip(*top, strict=True)
    ]


def _specialist_shares(together: SpecialistEnsemble, number: int, data: Dataset, example: Tensor) -> list[Share]:
    names = together.class_sets[number].specialist_names
    with torch.no_grad():
        logits = together.networks[number + 1](data.gather(example[None], 0))
    probs = torch.softmax(logits, 1)[0]
    top = probs.topk(min(_NUM_SHARES, len(probs)))
    return [Share(f"specialist: {names[int(k)]}", min(1.0, float(value))) for value, k in zip(*top, strict=True)]


def _marked(share: Share, name: str) -> Share:
    return Share(share.name, share.value, highlight=share.name.endswith(f": {name}"))


def pixels_of(data: Dataset, ids: Tensor) -> Sequence[NDArray[np.uint8]] | None:
    """Examples as pictures; None where they are none."""
    inputs = data.gather(ids, 0)
    if inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return None
    low = inputs.amin(dim=(0, 2, 3), keepdim=True)
    high = inputs.amax(dim=(0, 2, 3), keepdim=True)
    found: Any = ((inputs - low) / (high - low).clamp(min=1e-6) * 255).byte().permute(0, 2, 3, 1).numpy()
    return [np.ascontiguousarray(one.squeeze(-1) if one.shape[-1] == 1 else one) for one in found]
