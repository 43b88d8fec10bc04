"""How a model was made, in sentences that its card and the page share.

They are made of the metadata of the model's file, and of the training curve.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from stages.model_file.interface import ENSEMBLE, PROBABILITIES

# A member that lowers the log loss by less, in nats, adds nothing to those before it.
WORTH_A_MEMBER = 0.001


class Step(NamedTuple):
    """What a blend reaches on val with one more member."""

    name: str
    log_loss: float  # in nats
    gained: float | None  # how much lower that is than without the member; None for the first
    accuracy: float


def members_of(metadata: dict[str, Any]) -> list[str]:
    """The members of the blend in the order in which they are added; none where it is no blend."""
    return metadata["answers"][PROBABILITIES]["members"]


def steps_of(curve: pd.DataFrame, metadata: dict[str, Any]) -> list[Step]:
    """What each member of the blend adds, in their order; nothing where the model is no blend.

    `curve` is the training curve, which has a row for each.
    """
    found: list[Step] = []
    for name, line in zip(members_of(metadata), curve.itertuples(), strict=False):
        loss = float(line.val_log_loss)
        gained = found[-1].log_loss - loss if found else None
        found.append(Step(name, loss, gained, float(line.val_accuracy)))
    return found


def what_members_add(steps: Sequence[Step]) -> str:
    """Which member of a blend adds most, and which adds nothing."""
    first, *others = steps
    if not others:
        return f"The blend has one member only, `{first.name}`."
    best = max(others, key=_gained)
    text = f"`{first.name}` comes first. "
    if _gained(best) >= WORTH_A_MEMBER:
        text += (
            f"Of the others, `{best.name}` adds most: the log loss on val falls by "
            f"{_gained(best):.4f}. "
        )
    nothing = [step.name for step in others if _gained(step) < WORTH_A_MEMBER]
    if nothing:
        one = len(nothing) == 1
        text += (
            f"{_named(nothing)} {'adds' if one else 'add'} nothing to what comes before, and may "
            "be taken out. "
        )
    return text + "In another order, each would add something else."


def _gained(step: Step) -> float:
    return step.gained or 0.0


def _named(names: Iterable[str]) -> str:
    *first, last = [f"`{name}`" for name in names]
    return f"{', '.join(first)} and {last}" if first else last


def what_rows_did(metadata: dict[str, Any]) -> str:
    """On which rows a model was fitted and calibrated, and what val decided."""
    rows, refitted = metadata["training_rows"], metadata["parameters"]["refit_on_val"]
    text = f"Fitted on {rows:,} rows of train{' and val' if refitted else ''}"
    fewer = [f"{name} on {n:,} of them" for name, n in metadata["rows_used"].items() if n < rows]
    if fewer:
        text += f" ({', '.join(fewer)})"
    val = f"{metadata['val_rows']:,} rows of val"
    if metadata["model"] != ENSEMBLE:
        text += (
            f". The {val} decided how sure the model may be and, where it learns in steps, when "
            "to stop"
        )
        return text + (", before it learned from them too." if refitted else ".")
    known = metadata["calibrating_rows"]
    text += (
        ". How much each member counts, and how sure the model may be, rests on what members that "
        f"had not seen them say of {'all' if known == rows else f'{known:,}'} of these rows"
    )
    if refitted:
        return text + f", the {val} among them."
    return text + f". The {val} decided from which probability on an answer is sure, and no more."


def how_val_was_measured(metadata: dict[str, Any]) -> str:
    """How far the metrics on val are those of rows that had no part in what is measured."""
    if metadata["model"] != ENSEMBLE:
        text = "cross-fitted: what val decides was decided for each fifth of it by the other four"
        if metadata["parameters"]["refit_on_val"]:
            text += ", and the model had not learned from it yet"
        return text
    if metadata["parameters"]["refit_on_val"]:
        return (
            "cross-fitted: by members that had not seen the row, weighed and calibrated without "
            "its fifth of the rows"
        )
    return "its rows had no part in what answers them"


def what_was_chosen(metadata: dict[str, Any]) -> str:
    """What the parameters that are `auto` have become; empty where there are none."""
    return "; ".join(
        f"`{model}`: " + ", ".join(f"{name} {value:g}" for name, value in values.items())
        for model, values in metadata["chosen"].items()
    )


def too_few_rows(metadata: dict[str, Any]) -> str:
    """That few rows calibrate the model; empty where there are enough."""
    if not metadata["few_calibrating_rows"]:
        return ""
    return (
        f"The probabilities rest on {metadata['calibrating_rows']:,} "
        f"row{'' if metadata['calibrating_rows'] == 1 else 's'}, too few to calibrate them well: "
        "how sure the model is may be off."
    )
