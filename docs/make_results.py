"""Write docs/results.md from results/*.json: `make results`."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
HEAD = """# Results

Every number here comes from a file in [`results/`](../results), which holds the configuration, the seeds, the
spread, the commit and the machine. This page is written by `make results`; a test fails when it is stale.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


def page() -> str:
    """The text of the page."""
    results = [json.loads(path.read_text()) for path in sorted((ROOT / "results").glob("*.json"))]
    studies = [study(result) for result in results if "rows" in result]
    speeds = [benchmark(result) for result in results if "ratios" in result]
    return "\n".join([HEAD, *studies, "## Speed\n", *speeds]).rstrip() + "\n"


def study(result: dict[str, Any]) -> str:
    """One published study: its rows with mean, spread and n."""
    if result.get("schema") == 2:
        return schema_2(result)
    rows = result["rows"]
    if "advice" in rows[0]:
        return advice_study(result)
    if "advice" in result:
        return advice(result)
    has_paper = any(row.get("paper") is not None for row in rows)
    head = ["row", *(["paper"] if has_paper else []), "ours (mean ± sd)", "95 % interval", "n"]
    body = [
        [
            row["name"] + (f" ({row['network']})" if row.get("network") else ""),
            *([number(row.get("paper"))] if has_paper else []),
            mean_sd(row) + unit(row),
            interval(row),
            str(row["n"]),
        ]
        for row in rows
    ]
    what = "Accuracy" if all(row.get("unit") == "percent" for row in rows) else "Errors"
    against = [
        [one["name"], f"{one['mean']:+.2f}", difference(one), str(one["n"])]
        for one in result.get("differences", [])
    ]
    tables = table(head, body)
    if against:
        tables += ["", *table(["difference", "mean", "95 % interval", "n"], against)]
    return "\n".join([*heading(result, what), *tables, ""])


def heading(result: dict[str, Any], what: str) -> list[str]:
    """The name of a study, and how it was run."""
    about = result["environment"]
    of_test = f" of {result['num_test']:,} test examples" if "num_test" in result else " of test examples"
    return [
        f"## {result['name']}\n",
        f"`{command(about['command'])}`, {cost(result)} on {machine(about)}, "
        f"commit {about.get('commit', 'unknown')}. {what}{of_test}.\n",
    ]


def cost(result: dict[str, Any]) -> str:
    """How long a study took; of one that may have been gone on with, all its fits together."""
    if "fit_seconds" in result:
        return f"{result['fit_seconds'] / 3600:.1f} core-hours of fits"
    return f"{result['seconds'] / 60:.0f} minutes"


def schema_2(result: dict[str, Any]) -> str:
    """A result of schema 2: its rows, its differences, and the details that its recipe has tables for."""
    measure = result["measure"]
    has_paper = any("paper" in row for row in result["rows"])
    rows = [
        [
            *labels(row),
            *([number(row.get("paper"))] if has_paper else []),
            mean_sd(row),
            interval(row),
            str(row["n"]),
        ]
        for row in result["rows"]
    ]
    differences = [
        [*labels(row, f"{row['name']} - {row['minus']}"), f"{row['mean']:+.2f}", difference(row), str(row["n"])]
        for row in result.get("differences", [])
    ]
    head = [*label_names(result["rows"]), *(["paper"] if has_paper else []), "mean ± sd", "95 % interval", "n"]
    parts = [
        *DETAILS.get(result["recipe"], lambda details: [])(
            {**result["details"], "rows": result["rows"], "differences": result["differences"]}
        ),
        (head, rows),
        ([*label_names(result["rows"], "difference"), "mean", "95 % interval", "n"], differences),
    ]
    tables = [line for head, body in parts if body for line in (*table(head, body), "")]
    what = f"{measure['title'].capitalize()}, {measure['unit']}"
    return "\n".join([*heading(result, what), *tables])


def labels(row: dict[str, Any], name: str = "") -> list[str]:
    """What a row is of: its part, its name, its network."""
    return [*(str(row[key]) for key in ("part",) if key in row), name or row["name"]]


def label_names(rows: Sequence[dict[str, Any]], name: str = "row") -> list[str]:
    """The headings of `labels`."""
    return [*(key for key in ("part",) if key in rows[0]), name]


Tables = list[tuple[Sequence[str], list[list[str]]]]


def transfer_details(details: dict[str, Any]) -> Tables:
    """The paper's findings, its Table 1 for each network, and the curve."""
    findings = [
        [
            f"{finding['finding']}. {claim['claim']}",
            finding["network"],
            f"{claim['paper']:+.1f}",
            f"{claim['number']:+.2f}",
            difference(claim),
            str(claim["n"]),
            {True: "yes", False: "**no**"}.get(claim["holds"], "undecided"),
        ]
        for finding in details["findings"]
        for claim in finding["claims"]
    ]
    parts = [
        [name, part["network"], part["halves"], ", ".join(layer["name"] for layer in part["layers"])]
        for name, part in details["parts"].items()
    ]
    boosts = [
        [
            part["network"],
            f"{row['name']} - {row['minus']}",
            row["layers"],
            f"{row['mean']:+.2f}",
            difference(row),
            "" if row["pooled"] is None else f"{row['pooled']:+.2f}",
            str(row["n"]),
        ]
        for part in details["parts"].values()
        for row in part["boosts"]
    ]
    curve = [[f"{row['images_per_class']:g}", mean_sd(row), str(row["n"])] for row in details["curve"]]
    interval_head = "95 % interval"
    return [
        (["claim", "network", "paper", "points", interval_head, "n", "holds"], findings),
        (["network", "boost", "layers", "points", interval_head, "pooled as in the paper", "n"], boosts),
        (["images per class", "accuracy (mean ± sd)", "n"], curve),
        (["part", "network", "halves", "layers"], parts),
    ]


def specialists_details(details: dict[str, Any]) -> Tables:
    """Costs, the relative gain, the paper's table 4, what a full softmax forgets, what one network keeps."""
    base = details["rows"][0]
    costs = [
        [
            row["name"],
            figure_of(row),
            f"{row['conditional_accuracy']:.2f}",
            f"{row['inference_cost'] / base['inference_cost']:.2f}x",
            f"{row['training_cost'] / base['training_cost']:.2f}x",
            f"{row['training_seconds']:,.0f}",
            f"{row['parallel_seconds']:,.0f}",
        ]
        for row in details["rows"]
    ]
    gain = details["relative_gain"]
    relative = [[f"{gain['paper']:+.1f} %", f"{gain['mean']:+.2f} %", difference(gain), str(gain["n"])]]
    coverage = [
        [
            str(row["num_specialists"]),
            f"{row['examples']:,.0f}",
            f"{row['change']:+.1f}",
            "" if row["relative_change"] is None else f"{row['relative_change']:+.1f} %",
        ]
        for row in details["by_coverage"]
    ]
    forgetting = [
        [row["name"], f"{row['special']:.2f}", f"{row['rest']:.2f}", str(row["n"])]
        for row in details.get("forgetting", [])
    ]
    kept = [
        [f"{one['gain']:+.2f}", f"{one['gain_distilled']:+.2f}", f"{one['percent']:.0f} %"]
        for one in [details.get("kept", {})]
        if one.get("percent") is not None
    ]
    return [
        (["costs", "accuracy", "conditional", "in use", "training", "seconds", "in parallel"], costs),
        (["relative gain, paper", "ours", "95 % interval", "n"], relative),
        (["specialists that cover the class", "examples", "more right", "relative"], coverage),
        (["full softmax", "special classes", "other classes", "n"], forgetting),
        (["gain of specialists", "of the network distilled from them", "share"], kept),
    ]


def speech_details(details: dict[str, Any]) -> Tables:
    """Word errors, how much of each gain is kept, differences over recordings, and the test data."""

    def bootstrapped(row: dict[str, Any], key: str, sign: str = "") -> str:
        mean, low, high = (
            row[key or "mean"],
            *(row[f"{key}_bootstrap_{end}".lstrip("_")] for end in ("low", "high")),
        )
        return f"{mean:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"

    words = [
        [
            row["name"],
            number(row["paper_wer"]),
            bootstrapped(row, "wer"),
            number(row["train_frame_accuracy"]),
            f"{row['num_networks']}",
        ]
        for row in details["rows"]
    ]
    shares = [
        [
            one["name"],
            one["of"],
            f"{one['gain']:.2f} [{one['gain_low']:.2f}, {one['gain_high']:.2f}]",
            "undecided" if one["share"] is None else f"{one['share']:.0%} [{one['low']:.0%}, {one['high']:.0%}]",
            "" if one["paper"] is None else f"{one['paper']:.0%}",
        ]
        for one in details["shares"]
    ]
    differences = [
        [f"{one['name']} - {one['minus']}", bootstrapped(one, "", "+"), bootstrapped(one, "wer", "+")]
        for one in details["differences"]
    ]
    smallest = details["smallest_fraction"]
    test = [
        [
            details["test"],
            f"{details['num_recordings']:,}",
            f"{details['num_words']:,}",
            "none of those tried" if smallest is None else f"{smallest:g} %",
        ]
    ]
    return [
        (["test", "recordings", "words", "smallest share whose soft targets win back 87 %"], test),
        (["system", "paper's WER", "WER [95 % over recordings]", "frames in training", "networks"], words),
        (["system", "of the gain", "points [95 % over recordings]", "kept [95 %]", "paper"], shares),
        (["difference over recordings", "frames, points [95 %]", "WER, points [95 %]"], differences),
    ]


DETAILS: dict[str, Callable[[dict[str, Any]], Tables]] = {
    "reproduce-transfer": transfer_details,
    "reproduce-speech": speech_details,
    "specialists": specialists_details,
}
"""The tables of the details of a recipe; they are given its rows too."""


def advice_study(result: dict[str, Any]) -> str:
    """The advisor judged: on each pair its advice beside the best treatment of the full study; then its scores."""
    rows = [
        [
            row["name"],
            row["advice"],
            row["best"],
            number(row["advice_accuracy"]),
            number(row["best_accuracy"]),
            f"{row['mean']:+.2f}",
            difference(row),
            str(row["n"]),
            f"{row['cost_ratio']:.3f}",
            "yes" if row["within_goal"] else "**no**",
        ]
        for row in result["rows"]
    ]
    scores = [
        [
            one["score"],
            one["with"],
            *(("", "") if one["mean"] is None else (f"{one['mean']:+.2f}", f"{one['lowest']:+.2f}")),
            str(one["n"]),
        ]
        for one in result["correlations"]
    ]
    head = ["pair", "advice", "best", "accuracy", "of the best", "difference", "95 % interval", "n", "cost", "met"]
    parts = [
        (head, rows),
        (["score", "rank correlation with", "mean", "lowest", "pairs"], scores),
    ]
    tables = [line for head, body in parts for line in (*table(head, body), "")]
    return "\n".join([*heading(result, "Accuracy in percent"), *tables])


def advice(result: dict[str, Any]) -> str:
    """The advice for one target: the treatments that were fitted to the end, and what the advice gains on each."""
    rows = [
        [
            row["name"]
            + (f" ({row['usual']})" if row["usual"] else "")
            + (", **advice**" if row["chosen"] else ""),
            mean_sd(row),
            interval(row),
            *(["", ""] if row.get("advice_minus") is None else advice_minus(row)),
            str(row["n"]),
        ]
        for row in result["rows"]
        if row["mean"] is not None
    ]
    head = ["treatment", "accuracy (mean ± sd)", "95 % interval", "advice minus it", "95 % interval", "n"]
    return "\n".join([*heading(result, "Accuracy in percent"), *table(head, rows), ""])


def advice_minus(row: dict[str, Any]) -> list[str]:
    """What the advice gains on a treatment."""
    low, high = row["advice_minus_low"], row["advice_minus_high"]
    return [f"{row['advice_minus']:+.1f}", "" if low is None else f"[{low:+.1f}, {high:+.1f}]"]


def figure_of(row: dict[str, Any]) -> str:
    """Mean and spread in two decimals."""
    return f"{row['mean']:.2f}" + ("" if row["sd"] is None else f" ± {row['sd']:.2f}")


def difference(row: dict[str, Any]) -> str:
    """The interval of a difference."""
    return "" if row["low"] is None else f"[{row['low']:+.2f}, {row['high']:+.2f}]"


def benchmark(result: dict[str, Any]) -> str:
    """One benchmark: its ratios and figures with quartiles."""
    body = [
        [what, figure(about["median"]), " to ".join(map(figure, about["spread"])), *goal(about)]
        for what, about in [*result["ratios"].items(), *result["figures"].items()]
    ]
    return "\n".join(
        [
            f"### {result['name']}\n",
            f"`{result['command']}`: {result['config']['ratio']}; n = {result['n']} rounds, "
            f"{machine(result['machine'])}.\n",
            *table(["", "median", "quartiles", "goal", "met"], body),
            "",
        ]
    )


def goal(about: dict[str, Any]) -> list[str]:
    """The goal of a figure, and whether it is met."""
    met = about.get("met")
    return [about.get("goal", ""), "" if met is None else "yes" if met else "**no**"]


def interval(row: dict[str, Any]) -> str:
    """Over pairs where the row has one; else that of the difference to the row's control."""
    if row.get("low") is not None:
        return f"[{row['low']:.1f}, {row['high']:.1f}]"
    if row.get("difference_low") is not None:
        return f"difference {row['difference']:+.1f} [{row['difference_low']:+.1f}, {row['difference_high']:+.1f}]"
    return ""


def unit(row: dict[str, Any]) -> str:
    """What follows a number of this row."""
    return " %" if row.get("unit") == "percent" else ""


def number(value: float | None) -> str:
    """A number in one decimal, whole ones without."""
    return "" if value is None else f"{value:.1f}".removesuffix(".0")


def mean_sd(row: dict[str, Any], mean: str = "mean") -> str:
    """A mean with its spread, both in one decimal; without a spread as `number`."""
    sd = row.get("sd")
    return number(row[mean]) if sd is None else f"{row[mean]:.1f} ± {sd:.1f}"


def figure(value: float) -> str:
    """A ratio or a rate in four digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def command(words: Sequence[str]) -> str:
    """The command as it is typed; where one kept the run is nothing to type again."""
    typed = list(words[1:])
    if "--run-dir" in typed:
        place = typed.index("--run-dir")
        del typed[place : place + 2]
    return " ".join(["instar", *typed])


def machine(about: dict[str, Any]) -> str:
    """Processor and cores."""
    return f"{about.get('gpu') or about['processor']}, {about['cores']} cores"


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *body]]


if __name__ == "__main__":
    main()
