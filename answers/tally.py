"""What is counted while a model is asked: answers, those that are right, and what is amiss."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from answers.answerer import SIZES, Answerer, Answers
from answers.photographs import Photographs, known_museums
from answers.table import IMAGE_FILE, MEDIUM, SUBSET, Table
from stages.common.errors import shorten
from stages.common.stage import log
from stages.evaluation.intervals import wilson
from stages.features.kinds.category import MUSEUM
from stages.reporting.captions import counted
from stages.tables.artefacts import Artefacts
from stages.tables.split import SPLIT, subsets_of_artefacts

# Subsets that a model was made with: val decided how sure to be, if it has not learned from it too.
OWN = {"train", "val"}


@dataclass
class Tally:
    """What is counted on the way, and said at the end."""

    answerer: Answerer
    museum: str | None  # that was said for all rows
    title: str  # stands before a line
    rows: int = 0
    unsure: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)
    far: int = 0  # rows with sizes that are missing or far outside those of train
    example: str = ""
    strange: Counter[str] = field(default_factory=Counter)  # museums that train lacks
    # Of the rows that have a medium: those that the model was made with, and the others, which
    # are counted by whether the model is sure and whether it is right.
    own: int = 0
    results: Counter[tuple[bool, bool]] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)  # their mediums that the model lacks

    def __post_init__(self) -> None:
        self._subset_of = subsets_of_artefacts() if SPLIT.is_file() else {}
        asks = MUSEUM in self.answerer.further and self.museum is None
        self._museums = known_museums(self.answerer) if asks else None

    def add(
        self, artefacts: Artefacts, answers: Answers, far: np.ndarray, some: np.ndarray
    ) -> None:
        """Count some of n artefacts; `far` and `some` are (n,) bool."""
        self.rows += int(some.sum())
        self.unsure += int((some & ~answers.sure).sum())
        self.far += int((some & far).sum())
        if not self.example and (some & far).any():
            self.example = _sizes_in_words(artefacts, int(np.flatnonzero(some & far)[0]))
        if self._museums is not None:
            museums = set(artefacts[MUSEUM]).difference(self._museums)
            self.strange.update(museum for museum in artefacts[MUSEUM] if museum in museums)
        if MEDIUM not in artefacts:
            return
        first = answers.probabilities.argmax(axis=1)
        for row in np.flatnonzero(some & (artefacts[MEDIUM] != "")):
            subset = self._subset_of.get(artefacts[IMAGE_FILE][row], artefacts[SUBSET][row])
            if subset in OWN:
                self.own += 1
                continue
            medium = artefacts[MEDIUM][row]
            right = bool(medium == answers.labels[first[row]])
            self.results[bool(answers.sure[row]), right] += 1
            if medium not in answers.labels:
                self.unknown[medium] += 1

    def log(self, source: Table | Photographs) -> None:
        """Say it."""
        if self.far:
            log(self.title, self._about_sizes())
        if self.strange:
            log(
                self.title,
                f"{self.strange.total():,} rows are from museums that train lacks, such as "
                f"`{shorten(next(iter(self.strange)))}`: there the museum tells the model nothing",
            )
        if source.labelled:
            self._log_accuracy()

    def _about_sizes(self) -> str:
        (low, high), (least, most) = (self.answerer.ranges[name] for name in SIZES)
        done = "were answered without looking at them"
        if not self.answerer.can_ignore_sizes:
            done = "were answered all the same, and the answers may be off"
        return (
            f"{self.far:,} of {self.rows:,} have no width and height, or sizes far outside those "
            f"of train, and {done}: {self.example}; train has {low:,.0f} to {high:,.0f} x "
            f"{least:,.0f} to {most:,.0f} pixels"
        )

    def _log_accuracy(self) -> None:
        known = self.results.total()
        if self.own:
            log(
                self.title,
                f"not counted below, as they are of train or val, where a model looks better than "
                f"it is: {counted(self.own, 'row')}",
            )
        if not known:
            left = "but those" if self.own else "at all"
            log(
                self.title,
                f"how often the answers are right is not known: no row has a medium {left}",
            )
            return
        if self.unknown:
            log(
                self.title,
                "wrong, as the model does not know their medium, such as "
                f"`{shorten(next(iter(self.unknown)))}`: {counted(self.unknown.total(), 'row')}",
            )
        right = self.results[True, True] + self.results[False, True]
        log(self.title, f"accuracy: {_share(right, known)}")
        sure = self.results[True, True] + self.results[True, False]
        if sure:
            log(self.title, f"accuracy where it is sure: {_share(self.results[True, True], sure)}")
        else:
            log(self.title, "it is sure of none of these rows")


def _share(right: int, rows: int) -> str:
    """A share with its interval, in words."""
    low, high = wilson(np.array(right), np.array(rows))
    return f"{right / rows:.4f} ({right:,} of {rows:,} rows; 95 % interval {low:.4f} to {high:.4f})"


def _sizes_in_words(artefacts: Artefacts, row: int) -> str:
    width, height = (artefacts[name][row] for name in SIZES)
    name = shorten(artefacts[IMAGE_FILE][row])
    if np.isnan([width, height]).any():
        return f"{name} lacks its width or its height"
    return f"{name} has {width:,.0f} x {height:,.0f}"
