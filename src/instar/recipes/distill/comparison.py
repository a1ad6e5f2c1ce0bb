"""Several losses beside the first: which helps on these data, or that none differs within noise."""

from collections.abc import Mapping, Sequence
from typing import Any

from instar import intervals
from instar.naming import listed

Row = dict[str, Any]


def compared_losses(values: Mapping[str, Sequence[float]]) -> Row:
    """What the losses change in test errors, paired by seed with the first, and in a sentence what that says.

    With several comparisons one in twenty excludes zero by chance, so the sentence takes intervals that hold for
    all of them together: each of level 1 - 0.05 / k for k comparisons (Bonferroni).

    Args:
        values: test errors by seed, of each loss by its name; the first is the one that others are compared with.

    Returns:
        `sentence`, and `rows` with the `loss`, the mean difference, its 95 % interval `low` to `high`, and that
        for all comparisons together, `low_of_all` to `high_of_all`.

    Example:
        >>> found = compared_losses({"kd": [40, 44, 42], "dkd": [30, 34, 33], "dist": [41, 43, 43]})
        >>> print(found["sentence"].partition(" (")[0])
        dkd makes 9.7 fewer errors than kd
    """
    first, *others = values
    level = 1 - 0.05 / len(others)
    rows = []
    for name in others:
        plain, strict = (
            intervals.paired_difference(values[name], values[first], level=one) for one in (0.95, level)
        )
        of_all = {"low_of_all": strict.low, "high_of_all": strict.high}
        rows.append({"loss": name, "minus": first, **plain._asdict(), **of_all})
    return {"sentence": _sentence(rows, first), "rows": rows}


def _sentence(rows: Sequence[Row], first: str) -> str:
    if rows[0]["low"] is None:
        return f"One seed does not show which loss helps: use --seeds 5 to compare others with {first}."
    together = f" for all {len(rows)} comparisons together" if len(rows) > 1 else ""
    sure = [row for row in rows if row["low_of_all"] > 0 or row["high_of_all"] < 0]
    alike = [row["loss"] for row in rows if row not in sure]
    said = []
    for row in sorted(sure, key=lambda row: float(row["mean"])):
        count = f"{abs(row['mean']):.1f} {'fewer' if row['mean'] < 0 else 'more'}"
        bounds = f"[{row['low_of_all']:+.1f}, {row['high_of_all']:+.1f}]"
        said.append(f"{row['loss']} makes {count} errors than {first} (95 % interval{together} {bounds})")
        together = ""
    if not said:
        which = f"None of {listed(alike)} differs" if len(alike) > 1 else f"{alike[0]} does not differ"
        return f"{which} from {first} within noise (95 % intervals{together})."
    if alike:
        said.append(f"{listed(alike)} {'do' if len(alike) > 1 else 'does'} not differ within noise")
    return "; ".join(said) + "."
