"""Rows, differences and their tables: the part of every `result.json` that all experiments share.

A `result.json` has these keys, in all experiments:

- `schema`: 2. `recipe`, `config`: the experiment and its configuration, enough to run it again.
- `measure`: what the `mean` of a row is: `key`, `title`, `unit`, and which way is `better`, `lower` or `higher`.
- `metrics`: the few numbers by which runs are compared, by name.
- `rows`: one for each network or method: `name`; `mean`, `sd`, the 95 % interval `low` to `high` over `n`
  independent replicates (seeds, splits, pairs, folds), and their `values`; what else the experiment says of it.
  `sd`, `low` and `high` are null where n is 1. A row whose mean is of something else has a `unit` of its own.
  `failed_to_learn`: how many of the n have a network that is no better than guessing on what it learned from;
  absent where all learned.
- `differences`: `name` minus `minus`, paired by replicate: `mean`, `sd`, `n`, `low`, `high`.
- `tuning`: every candidate that validation compared: `name`, its settings, `validation_errors` (mean over tuning
  seeds), `sd`, `n`, `validation_nll`; or `failed`, the reason. `failed_to_learn`: how many of the n; absent where
  none.
- `details`: what this experiment alone has; and in all of them, where there is something, `failed_to_learn`: the
  `fit` and the `reason` of each that is reported, and `observations`: what to look at first, in sentences.
- `num_test`: test examples; `seeds`: of the replicates. Absent where they have no meaning.
- `seconds` since the last start; `fit_seconds`, training time over all restarts; `environment`: commit, machine,
  versions, command.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from instar import intervals

SCHEMA = 2
Row = Mapping[str, Any]


class Measure(NamedTuple):
    """What the mean of a row is."""

    key: str
    title: str
    unit: str
    better: Literal["lower", "higher"]


ERRORS = Measure("errors", "test errors", "errors", "lower")
ACCURACY = Measure("accuracy", "test accuracy", "%", "higher")


def row(name: str, values: Sequence[float], **about: Any) -> dict[str, Any]:
    """A row: a name, the statistics of its values over replicates, and whatever else is said of it.

    Example:
        >>> row("student", [70.0, 74.0], network="mlp:8x1")["mean"]
        72.0
    """
    return {"name": name, **about, **intervals.over_seeds(values)._asdict(), "values": list(values)}


def difference(
    name: str, minus: str, values: Sequence[float], controls: Sequence[float], **about: Any
) -> dict[str, Any]:
    """`name` minus `minus`, paired by replicate, with the t interval of the mean.

    Example:
        >>> difference("distilled", "alone", [70.0, 74.0], [80.0, 86.0])["mean"]
        -11.0
    """
    over = intervals.paired_difference(values, controls)
    return {"name": name, "minus": minus, **over._asdict(), **about}


def mean_sd(row: Row, digits: int = 1) -> str:
    """`221.8 ± 8.6`; the mean alone where n is 1.

    Example:
        >>> mean_sd({"mean": 221.8, "sd": 8.64}), mean_sd({"mean": 81.0, "sd": None})
        ('221.8 ± 8.6', '81.0')
    """
    mean = f"{row['mean']:.{digits}f}"
    return mean if row.get("sd") is None else f"{mean} ± {row['sd']:.{digits}f}"


def interval(row: Row, digits: int = 1, *, sign: bool = False) -> str | None:
    """`[-115.4, -68.6]`; None where there is none.

    Example:
        >>> interval({"low": 1.04, "high": 2.5}), interval({"low": 1.0, "high": 2.5}, sign=True)
        ('[1.0, 2.5]', '[+1.0, +2.5]')
    """
    if row.get("low") is None or row.get("high") is None:
        return None
    number = f"{'+' if sign else ''}.{digits}f"
    return f"[{row['low']:{number}}, {row['high']:{number}}]"


def with_interval(row: Row) -> str:
    """A difference with its interval: `+1.8 [+0.2, +3.4]`.

    Example:
        >>> with_interval({"mean": 1.84, "low": 0.2, "high": 3.4})
        '+1.8 [+0.2, +3.4]'
    """
    return f"{row['mean']:+.1f} {interval(row, sign=True)}"


def about_likelihood(over: Row, mean: float, control: float) -> str:
    """What the likelihood says beside another measure, in a sentence; empty where its interval includes zero.

    Args:
        over: the difference in negative log-likelihood, of `difference`.
        mean, control: the negative log-likelihoods, in nats.

    Example:
        >>> print(about_likelihood({"mean": -0.6, "low": -0.7, "high": -0.5, "n": 3}, 0.2, 0.8))
        Its probabilities are better: negative log-likelihood 0.200 nats, alone 0.800, difference [-0.700, -0.500].
    """
    if not excludes_zero(over):
        return ""
    return (
        f"Its probabilities are {'better' if over['mean'] < 0 else 'worse'}: negative log-likelihood "
        f"{mean:.3f} nats, alone {control:.3f}, difference {interval(over, 3, sign=True)}."
    )


def excludes_zero(row: Row) -> bool:
    """Whether the interval of a difference excludes zero; without an interval it does not.

    Nor does one without a width: two or three seeds that differ equally do not say how seeds vary.

    Example:
        >>> excludes_zero({"low": 0.2, "high": 3.4}), excludes_zero({"low": 54.0, "high": 54.0})
        (True, False)
    """
    return row.get("low") is not None and row["low"] < row["high"] and (row["low"] > 0 or row["high"] < 0)
