"""What an expert would see at once in the result of `instar distill`, in sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

from instar import intervals
from instar.documentation import address
from instar.networks.fitted import is_estimator
from instar.recipes import observations as shared
from instar.recipes.distill.plan import ALONE, CORRECTED, DISTILLED, SAME_COST
from instar.recipes.learning import FAILED, failures_in_words
from instar.recipes.loading import comes_with_weights
from instar.recipes.settings import TeacherSettings

_WORDS = {
    ALONE: "students alone",
    SAME_COST: "students alone at the same cost",
    DISTILLED: "distilled students",
    CORRECTED: "corrected students",
}


def failures(result: Mapping[str, Any]) -> str:
    """Which networks failed to learn, in a sentence; empty where all learned."""
    return failures_in_words(result["rows"], _WORDS)


def observations(result: Mapping[str, Any]) -> list[str]:
    """What is strange about the teacher and about what the student took from it, and what any result may have."""
    order = result["details"].get("class_order", [])
    return [
        *order,
        *_about_teacher(result),
        *_not_smaller(result),
        *_guessing(result),
        *_not_taken_over(result),
        *shared.observations(result),
    ]


def _about_teacher(result: Mapping[str, Any]) -> Iterator[str]:
    errors = {row["name"]: row["mean"] for row in result["rows"]}
    if "teacher" in errors and errors["teacher"] >= errors[ALONE]:
        weights = {row["name"]: row.get("parameters") for row in result["rows"]}
        advice = "train it longer or at another learning rate, or use a larger one"
        if weights["teacher"] is None:  # a forest
            advice = "use another kind of teacher"
        yield (
            f"The teacher is no better than the student alone ({errors['teacher']:.1f} and {errors[ALONE]:.1f} "
            f"errors on test), so it has little to teach: {advice}."
        )


def _not_smaller(result: Mapping[str, Any]) -> Iterator[str]:
    """A student with more weights than its teacher."""
    weights = {row["name"]: row.get("parameters") for row in result["rows"]}
    teacher, student = weights.get("teacher"), weights[DISTILLED]
    if teacher and student and student > teacher:
        yield (
            f"The student has more weights than its teacher ({student:,} and {teacher:,}): choose a smaller one "
            "if it is to be shipped in its place."
        )


def _guessing(result: Mapping[str, Any]) -> Iterator[str]:
    """Networks that learned, and yet are no better on test than the commonest class; what to do where all are."""
    num_test, by_guessing = result["num_test"], result["details"]["commonest_class_errors"]
    guessing = [row for row in result["rows"] if FAILED not in row and _guesses(row, num_test, by_guessing)]
    for row in guessing:
        is_teacher = row["name"] == "teacher"
        yield (
            f"{'The teacher' if is_teacher else row['name']} makes {row['mean']:.1f} errors on {num_test:,} "
            f"test examples, where answering always the commonest class makes {by_guessing:,}."
            + (f" {_cure_of_teacher(result)}" if is_teacher else "")
        )
    if len(guessing) == len(result["rows"]) and _of_images(result):
        num_train = result["details"]["transfer"]["num_control"]
        yield (
            f"No network knows the classes after {num_train:,} training images: "
            "collect more, or make a teacher of a network that was trained on other pictures with instar advise "
            f"(see docs: {address('methods/own-pictures')})."
        )


def _guesses(row: Mapping[str, Any], num_test: int, by_guessing: int) -> bool:
    return not intervals.is_above_chance(num_test - round(row["mean"]), num_test, num_test - by_guessing)


def _of_images(result: Mapping[str, Any]) -> bool:
    return bool(result["details"]["transfer"]["examples_are"] == "images")


def _cure_of_teacher(result: Mapping[str, Any]) -> str:
    """What to do about a teacher that guesses: one that came with its weights may be asked wrongly."""
    teacher = TeacherSettings.model_validate(result["config"]["teacher"])
    names = teacher.network.split(",")
    if any(comes_with_weights(teacher, spec) for spec in names):
        return "Look at its weights, its preprocessing and the order of its classes."
    if any(map(is_estimator, names)):
        return "Use another kind of teacher, or one that was trained on more examples."
    if not _of_images(result):
        return "Train it longer (--teacher-epochs), or bring a pretrained one."
    another = ", take one that is made for pictures (--teacher resnet:20 --student convnet:8)"
    another = another if all(name.startswith("mlp:") for name in names) else ""
    views = "with --teacher-views crop:4+flip"
    return f"Train it longer (--teacher-epochs), {views}{another}, or bring a pretrained one."


def _not_taken_over(result: Mapping[str, Any]) -> Iterator[str]:
    """A distilled student that agrees less with its teacher, where it was taught, than one that never saw it."""
    rows = {row["name"]: row for row in result["rows"]}
    agrees, control = (round(rows[name]["train_teacher_agreement"], 3) for name in (DISTILLED, ALONE))
    if agrees < control:
        yield (
            f"On the transfer set the distilled student agrees with its teacher on {agrees:.1%}, the student "
            f"alone on {control:.1%}: it did not take over what it was taught. Try other learning rates and "
            "temperatures, or more epochs."
        )
