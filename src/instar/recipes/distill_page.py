"""What a person reads after `instar distill`: the answer, its table, its charts, and how to get it again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from torch import Tensor

from instar import metrics
from instar.jobs import duration
from instar.losses import soft_targets
from instar.recipes.distill import ALONE, DISTILLED, DistillConfig, Trial, wrong_of
from instar.recipes.fitting import load_splits
from instar.reports import (
    Bars,
    Code,
    Column,
    Details,
    Headline,
    Images,
    Lines,
    Picture,
    Section,
    Share,
    Table,
    Text,
    write_page,
)
from instar.runs import REPORT, Run, without_none

NUM_PICTURES = 8
SERIES = ("teacher", ALONE, DISTILLED)


def answer(result: Mapping[str, Any]) -> Headline:
    """The result in one sentence, with its interval."""
    teacher, alone, distilled = result["rows"]
    difference, n = distilled["difference"], distilled["n"]
    low, high = distilled["difference_low"], distilled["difference_high"]
    change = f"{abs(difference):.1f} {'fewer' if difference < 0 else 'more'} of {result['num_test']:,} test errors"
    times = teacher["parameters"] / distilled["parameters"]
    sentence = (
        f"Distilled, {distilled['network']} makes {distilled['mean']:.1f} test errors; alone it makes "
        f"{alone['mean']:.1f}: {change}."
    )
    if low is None:
        sure = "One seed says nothing of how sure that is; take --seeds 5."
    else:
        verdict = "excludes zero" if low > 0 or high < 0 else "includes zero: undecided"
        sure = (
            f"95 % interval of the difference over {n} paired seeds: [{low:+.1f}, {high:+.1f}], which {verdict}."
        )
    size = (
        f"The teacher makes {teacher['mean']:.1f} and has {times:.0f} times the weights."
        if times >= 1.5
        else f"The teacher makes {teacher['mean']:.1f}."
    )
    return Headline(sentence, f"{sure} {size}")


def result_table(result: Mapping[str, Any]) -> Table:
    """The table of `result.json`, for the page and the terminal."""
    teacher, alone, distilled = result["rows"]
    interval = "{mean:.1f} ± {sd:.1f}" if alone["sd"] is not None else "{mean:.1f}"
    rows = [dict(row) for row in (teacher, alone, distilled)]
    for row in rows:
        one = row["sd"] is None
        row["shown_errors"] = f"{row['mean']:.1f}" if one else interval.format(**row)
    return Table(
        "Result",
        rows,
        columns=[
            Column("name", "network"),
            Column("network", "form"),
            Column("shown_errors", "test errors", note=f"of {result['num_test']:,}, mean ± sd over n seeds"),
            Column("n", "n"),
            Column("test_accuracy", "accuracy", "{:.2%}"),
            Column("test_nll", "NLL", "{:.4f}", note="negative log-likelihood, nats"),
            Column("test_calibration_error", "calibration error", "{:.2%}", note="adaptive, 15 bins"),
            Column("teacher_agreement", "agrees with teacher", "{:.2%}"),
            Column("parameters", "weights", "{:,}"),
            Column("latency_ms", "latency", "{:.3f} ms", note="median, batch 1, one CPU thread"),
        ],
        highlight=2,
    )


def write_distill_page(run: Run, config: DistillConfig, trial: Trial, result: dict[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    sections: list[Section] = [
        answer(result),
        result_table(result),
        *_training_curves(run.path, config),
        _errors_by_class(config, trial),
        _calibration(trial),
        *_tuning_curves(result),
        *_disagreements(config, trial),
        _dark_knowledge(config, trial),
        _cost_table(result),
        _differences(result),
        Code("Get it again", _commands(config, run.path)),
        Details(
            "Configuration and machine",
            [
                Code("config.toml", tomli_w.dumps(without_none(config.model_dump()))),
                Table("Machine", [_machine(run)]),
            ],
        ),
    ]
    splits = load_splits(config.data)
    counts = f"{len(splits.train):,} training, {len(splits.validation):,} validation, {len(splits.test):,} test"
    write_page(
        run.path / REPORT,
        f"{config.teacher.network} into {config.student.network}",
        sections,
        subtitle=f"Knowledge distillation on {splits.name}: {counts} examples, {duration(result['seconds'])}",
        footer=f"instar {_machine(run)['instar']}",
        series=SERIES,
    )


def _training_curves(path: Path, config: DistillConfig) -> list[Section]:
    rows: list[dict[str, Any]] = []
    for kind in (ALONE, DISTILLED):
        histories = [
            Run.read(path / "jobs" / kind / f"seed-{seed}").result()["rows"]
            for seed in range(config.seed, config.seed + config.seeds)
        ]
        for lines in zip(*histories, strict=False):
            errors = metrics.over_seeds([line["validation_errors"] for line in lines])
            rows.append(
                {
                    "network": kind,
                    "epoch": lines[0]["epoch"],
                    "errors": errors.mean,
                    "low": max(errors.mean - (errors.sd or 0.0), 0.0),
                    "high": errors.mean + (errors.sd or 0.0),
                }
            )
    caption = f"Errors on validation after each epoch, mean over {config.seeds} seeds; the band is one sd."
    ceiling = 3 * min(row["errors"] for row in rows)  # the first epochs would squeeze the rest into a line
    shown = [row for row in rows if row["errors"] <= ceiling] or rows
    if len(shown) < len(rows):
        caption += f" Epochs with more than {ceiling:.0f} are left out."
    return [
        Lines(
            "Training",
            shown,
            x="epoch",
            y="errors",
            series="network",
            low="low",
            high="high",
            y_title="validation errors",
            caption=caption,
        )
    ]


def _errors_by_class(config: DistillConfig, trial: Trial) -> Section:
    names = load_splits(config.data).class_names
    rows = []
    for network, logits in _by_network(trial).items():
        counts = torch.stack([metrics.errors_by_class(one, trial.labels, len(names)) for one in logits])
        means = counts.double().mean(0).tolist()
        rows += [
            {"class": name, "network": network, "errors": mean} for name, mean in zip(names, means, strict=True)
        ]
    caption = "Test errors by true class, mean over seeds."
    return Bars("Errors by class", rows, category="class", value="errors", series="network", caption=caption)


def _by_network(trial: Trial) -> dict[str, list[Tensor]]:
    return {"teacher": [trial.teacher_logits], **trial.student_logits}


def _calibration(trial: Trial) -> Section:
    rows = []
    for network, logits in _by_network(trial).items():
        pooled = torch.cat(logits)
        probs, predicted = pooled.softmax(-1).max(-1)
        right = (predicted == trial.labels.repeat(len(logits))).double()
        order = probs.argsort()
        for part in order.chunk(10):
            rows.append(
                {
                    "network": network,
                    "confidence": float(probs[part].mean()),
                    "accuracy": float(right[part].mean()),
                }
            )
    return Lines(
        "Calibration",
        rows,
        x="confidence",
        y="accuracy",
        series="network",
        points=True,
        diagonal=True,
        caption="Tenths of the test examples by confidence: how often the prediction was right. On the line, "
        "the network is as sure as it should be.",
    )


_TUNED = {
    "temperature": "Each temperature at its best other settings, mean over the tuning seeds.",
    "soft_weight": "Each weight of the soft targets at its best other settings, mean over the tuning seeds.",
    "hard_weight": "Each weight of the labels at its best other settings, mean over the tuning seeds.",
    "learning_rate": "The control gets the same choice of learning rates as the distilled student.",
}


def _tuning_curves(result: dict[str, Any]) -> list[Section]:
    """What validation said of each candidate, for every setting that had several."""
    sections: list[Section] = []
    for key, caption in _TUNED.items():
        rows = [row for kind in (ALONE, DISTILLED) for row in _best_at_each(result["tuning"], kind, key)]
        values = {row[key] for row in rows}
        if len(values) > 1:
            sections.append(
                Lines(
                    key.replace("_", " ").capitalize(),
                    rows,
                    x=key,
                    y="validation_errors",
                    series="name",
                    x_title=key.replace("_", " "),
                    y_title="validation errors",
                    points=True,
                    log_x=min(values) > 0,
                    caption=caption,
                )
            )
    return sections


def _best_at_each(rows: Sequence[Mapping[str, Any]], kind: str, key: str) -> list[Mapping[str, Any]]:
    """For each value of one setting, the row with the fewest errors of a kind of student."""
    mine = [row for row in rows if row["name"] == kind and key in row]
    return [
        min((row for row in mine if row[key] == value), key=lambda row: row["validation_errors"])
        for value in sorted({row[key] for row in mine})
    ]


def _disagreements(config: DistillConfig, trial: Trial) -> list[Section]:
    """Examples where the first distilled student and the teacher say different things, the surest first."""
    student = trial.student_logits[DISTILLED][0]
    differ = (student.argmax(-1) != trial.teacher_logits.argmax(-1)).nonzero().flatten()
    if not len(differ):
        return [Text("Teacher and student agree on every test example.", title="Where they disagree")]
    surest = differ[student[differ].softmax(-1).max(-1).values.argsort(descending=True)][:NUM_PICTURES]
    names = load_splits(config.data).class_names
    words = [
        f"{names[int(trial.labels[row])]}: teacher {names[int(trial.teacher_logits[row].argmax())]}, "
        f"student {names[int(student[row].argmax())]}"
        for row in surest
    ]
    caption = f"{len(differ)} test examples; true class first. Those where the student is surest are shown."
    return _pictures("Where teacher and student disagree", config, surest, words, [()] * len(words), caption)


def _dark_knowledge(config: DistillConfig, trial: Trial) -> Section:
    """Which wrong classes the teacher finds alike: examples that it gets right, with its soft targets."""
    names = load_splits(config.data).class_names
    temperature = trial.chosen[DISTILLED].settings["temperature"]
    targets = soft_targets(trial.teacher_logits, temperature).probs
    right = ~wrong_of(trial.teacher_logits, trial.labels)
    rows = []
    for label in range(min(len(names), NUM_PICTURES)):
        of_class = (right & (trial.labels == label)).nonzero().flatten()
        if len(of_class):  # the one with the least sure target tells the most
            rows.append(int(of_class[targets[of_class, label].argmin()]))
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
    title = "Dark knowledge"
    sections = _pictures(title, config, torch.tensor(rows), words, shares, caption)
    return sections[0]


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


def _cost_table(result: dict[str, Any]) -> Section:
    return Table(
        "Cost in use",
        result["rows"],
        columns=[
            Column("name", "network"),
            Column("parameters", "weights", "{:,}"),
            Column("bytes", "size", "{:si}B", note="float32"),
            Column("multiplications", "multiplications", "{:si}", note="for one example"),
            Column("latency_ms", "latency", "{:.3f} ms", note="median, batch 1, one CPU thread"),
        ],
    )


def _differences(result: dict[str, Any]) -> Section:
    row = result["rows"][2]
    over = [{"over": f"{row['n']} paired seeds (t)", "low": row["difference_low"], "high": row["difference_high"]}]
    over.append(
        {
            "over": f"{result['num_test']:,} test examples (bootstrap)",
            "low": row["difference_low_examples"],
            "high": row["difference_high_examples"],
        }
    )
    rows = [{"difference": row["difference"], **one} for one in over if one["low"] is not None]
    return Table(
        "Distilled minus alone, in test errors",
        rows,
        columns=[
            Column("over", "95 % interval over"),
            Column("difference", "difference", "{:+.1f}"),
            Column("low", "from", "{:+.1f}"),
            Column("high", "to", "{:+.1f}"),
        ],
        caption="Over seeds: would other initialisations say the same, with this teacher? "
        "Over test examples: would another test set of this size?",
    )


def _commands(config: DistillConfig, path: Path) -> str:
    return (
        f"instar distill --config {path / 'config.toml'} --run-dir runs/again\n"
        f"instar runs show {path}\n"
        f"instar distill --teacher {path}:teacher --data {config.data.name} --student {config.student.network}"
    )


def _machine(run: Run) -> dict[str, Any]:
    about = run.read_json("environment.json")
    return {key: about[key] for key in ("instar", "torch", "python", "processor", "cores") if key in about}
