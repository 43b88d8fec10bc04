"""An explanation in words: the same sections of sentences and tables as text and as a page."""

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from answers.answerer import SYNTHETIC
from answers.explanation import Explanation, Variant
from answers.rendering import between, render, share
from answers.thumbnail import Picture
from answers.training import Similar
from stages.common.errors import shorten
from stages.features.kinds.category import MUSEUM
from stages.features.kinds.sizes import SIZES
from stages.model_file.words import Words
from stages.models.registry import DESCRIPTIONS
from stages.reporting.captions import counted, listed, percent
from stages.tables.artefacts import EMBEDDING
from stages.tables.predictions import PREDICTIONS
from stages.tables.values import UNKNOWN

COLUMNS = 80  # of a terminal
GAP = 2  # blanks between the columns of a table
LEAST = 8  # characters of a column, however many there are
TEMPLATE = Path(__file__).with_name("explanation.html")
WITHOUT = "without width and height"
SAME = 0.9999  # a similarity beyond that is one of a photograph to itself


@dataclass(frozen=True)
class Table:
    """A table of texts; what stands in its first column names the row."""

    header: list[str]
    rows: list[list[str]]
    numbers: int  # of the columns, from the right, that hold numbers
    pictures: list[str] | None = None  # the image file that a row is about


@dataclass(frozen=True)
class Section:
    """A part of what is told."""

    title: str
    before: list[str]  # sentences before the table
    table: Table | None = None
    after: list[str] | None = None  # and after it


@dataclass(frozen=True)
class Telling:
    """Sentences with the words that a run has for its labels and groups."""

    words: Words
    found: Explanation

    @property
    def title(self) -> str:
        """What it is all about."""
        return f"Why this answer: {self.found.image_file}"

    @property
    def about(self) -> str:
        """A line about the artefact."""
        found = self.found
        parts = [f"a row of {found.subset}" if found.subset else "a photograph"]
        if found.subset or found.museum:
            parts.append(found.museum or f"{self.words.group} {UNKNOWN}")
        return ", ".join([*parts, self._size])

    @property
    def _size(self) -> str:
        return f"{self.found.width:,.0f} x {self.found.height:,.0f} pixels"

    @property
    def banner(self) -> str | None:
        """What has to be said first of a model of simulated data."""
        return f"{SYNTHETIC[0].upper()}{SYNTHETIC[1:]}." if self.found.synthetic else None

    @property
    def sections(self) -> list[Section]:
        """All that is told."""
        found = [self._answer(), self._right_when(), self._groups(), self._members()]
        found.append(self._similar())
        return [*found, self._mistake()] if self.found.mistake else found

    def _answer(self) -> Section:
        found, label = self.found, self.words.label
        sure = "is sure of it" if found.sure else "is unsure"
        before = [
            f"The model answers {found.answer.label}, with a probability of "
            f"{share(found.answer.probability)}, and {sure}."
        ]
        if found.medium is not None:
            before[0] += (
                f" That is wrong: the table has {found.medium}."
                if found.mistake
                else f" That is right: the table has the same {label}."
            )
        right = {found.medium: " (the right one)"} if found.mistake else {}
        rows = [[c.label + right.get(c.label, ""), share(c.probability)] for c in found.best]
        table = Table([f"most probable {self.words.labels}", "probability"], rows, 1)
        return Section("The answer", before, table, [*self._subset(), *self._sizes()])

    def _subset(self) -> list[str]:
        """What the subset of a row means for its answer."""
        found = self.found
        if found.subset == "test":
            return ["It is a row of test, which had no part in making the model: a fair trial."]
        if found.subset == "train":
            return [
                "The model was fitted on this very row, of train: that it knows the answer proves "
                "nothing."
            ]
        if found.subset is None:
            return []
        text = (
            "It is a row of val. These probabilities are cross-fitted, as they stand in "
            f"{PREDICTIONS}: they come from models that had not seen this row, and from decisions "
            "that it had no part in. The reasons below are those of the model's file, "
        )
        text += (
            "which has learned from this row too"
            if found.refitted
            else "whose decisions it may have had a part in"
        )
        return [
            f"{text}; there, {found.answer.label} has {share(found.own_answer)}"
            + ("." if found.own.label == found.answer.label else f", and {self._own} is first.")
        ]

    @property
    def _own(self) -> str:
        return f"{self.found.own.label} with {share(self.found.own.probability)}"

    def _sizes(self) -> list[str]:
        """What was made of the photograph's width and height."""
        found = self.found
        if not found.ranges:
            return []
        if found.far:
            (low, high), (lowest, highest) = found.ranges.values()
            text = (
                f"Its {self._size} are far outside of what the model was trained on (about "
                f"{low:,.0f} to {high:,.0f} wide and {lowest:,.0f} to {highest:,.0f} high), "
            )
            if found.with_sizes and found.without_sizes:
                return [
                    f"{text}and were looked at all the same, as the run did: asked about the "
                    "photograph, the model answers without them."
                ]
            if found.with_sizes:
                return [f"{text}and the model cannot answer without them: rely on it for nothing."]
            return [f"{text}so that this answer does without width and height."]
        if found.with_sizes:
            return ["Width and height of the photograph were looked at too."]
        return ["Width and height of the photograph were ignored, as was asked."]

    def _right_when(self) -> Section:
        found, known = self.found, self.found.right_when
        asked = percent(found.sure_accuracy, 0)
        if found.threshold is None:
            sure = (
                "It is sure of no answer at all: val does not show that any, however probable, "
                f"are right in {asked} of all cases."
            )
        else:
            sure = (
                f"It is sure from {share(found.threshold)} on: of all answers on val with that "
                f"or more, together, at least {asked} were right; of those near it, fewer. That "
                "holds for photographs like those of train alone."
            )
        if known is None:
            return Section(
                "How often it is right when it is this sure",
                ["The run has no answers without width and height, so that nobody knows.", sure],
            )
        return Section(
            "How often it is right when it is this sure",
            [
                f"Of the {known.rows:,} answers on val and test that were the most nearly as "
                f"probable ({between(known.least, known.most)}), {known.right:,} were right: "
                f"{share(known.right / known.rows)}. Over all artefacts of this kind, that share "
                f"is probably {between(known.low, known.high)}.",
                sure,
            ],
        )

    def _kind(self, name: str) -> str:
        """What people call a kind of features."""
        known = {EMBEDDING: "the embedding", SIZES: "the width and height"}
        return {**known, MUSEUM: f"the {self.words.group}"}.get(name, f"`{name}`")

    def _groups(self) -> Section:
        found = self.found
        answer, other = found.answer.label, found.other.label
        before = [
            f"With {self._kind(group.name)} of {self._others} instead of its own, the probability "
            f"of {answer} would be {share(group.answer)} on average, instead of "
            f"{share(found.own_answer)}."
            for group in found.groups
        ]
        rows = [
            [
                f"{self._kind(group.name)} of others",
                share(group.answer),
                f"{signed(100 * (group.answer - found.own_answer), 1)} points",
                signed(group.log_odds - found.log_odds),
            ]
            for group in found.groups
        ]
        header = ["with", f"{answer} then has", "change", f"change in nats, against {other}"]
        after = [
            "What lowers the probability spoke for the answer; what raises it spoke against it. "
            "The others are training artefacts, drawn at random and the same each time. Nats are "
            f"logarithms of odds: 0.7 more make {answer} twice as probable beside {other}, 2.3 "
            "more ten times."
        ]
        if (without := found.without_sizes) is not None:
            text = f"A second model in the file was fitted {WITHOUT}. It answers {choice(without)}"
            if without.first.label != answer:
                text += f", and gives {answer} {share(without.answer)}"
            after.append(f"{text}.")
        table = Table(header, rows, 3)
        return Section("What each kind of features contributed", before, table, after)

    @property
    def _others(self) -> str:
        return counted(self.found.sample, "other artefact")

    def _members(self) -> Section:
        found, title = self.found, "What each part of the model contributed"
        answer, other = found.answer.label, found.other.label
        if not found.members:
            what = DESCRIPTIONS.get(found.model, "a model of its own")
            return Section(
                title, [f"The model is no blend but one model alone, `{found.model}`: {what}."]
            )
        total = (
            f"{answer} is {times(found.log_odds)} as probable as {other}"
            if found.log_odds >= 0
            else f"{other} is {times(-found.log_odds)} as probable as {answer}"
        )
        who = "the model's file" if found.subset == "val" else "the model"
        before = [
            f"The model adds up the opinions of {counted(len(found.members), 'part')}, each "
            "weighed by how right it was about artefacts that it had not seen. A positive share "
            f"speaks for {answer}, a negative one for {other}. "
            f"Their sum is exactly what {who} says: {total}."
        ]
        rows = [
            [
                part.name,
                DESCRIPTIONS.get(part.name, ""),
                part.favourite or "none: its weight is 0",
                signed(part.nats),
            ]
            for part in found.members
        ]
        rows.append(["together", "", found.own.label, signed(found.log_odds)])
        header = ["part", "what it is", "its own favourite", "share, nats"]
        return Section(title, before, Table(header, rows, 1))

    def _similar(self) -> Section:
        found = self.found
        answer, count = found.answer.label, len(found.similar)
        agree = sum(near.medium == answer for near in found.similar)
        text = f"Of these {count}, {_are(agree, count)} {answer}, which is the answer"
        if found.mistake:
            right = sum(near.medium == found.medium for near in found.similar)
            text += f", and {_are(right, count)} {found.medium}, which is right"
        rows = [
            [near.image_file, near.medium, near.museum or UNKNOWN, f"{near.cosine:.2f}"]
            for near in found.similar
        ]
        header = ["image file", self.words.label, self.words.group, "similarity"]
        same = found.subset is None and found.similar and found.similar[0].cosine > SAME
        if same:
            text += (
                f". {found.similar[0].image_file} seems to be this very photograph: the model was "
                "fitted on it, so that its answer proves nothing"
            )
        compared = "embeddings" if EMBEDDING in {g.name for g in found.groups} else "features"
        return Section(
            "The most similar artefacts of train",
            [f"{text}."],
            Table(header, rows, 1, [near.image_file for near in found.similar]),
            [
                f"The similarity is the cosine of the {compared}, as the model takes them: 1 is "
                "the same, 0 has nothing in common."
            ],
        )

    def _mistake(self) -> Section:
        found, mistake = self.found, self.found.mistake
        if mistake is None:
            raise ValueError("the answer is right, or nobody knows")
        answer, right = found.answer.label, found.other.label
        before = [
            f"The right {self.words.label}, {right}, is in place {mistake.rank} with "
            f"{share(found.other.probability)}."
        ]
        if found.log_odds > 0:
            before[0] += (
                f" It is {found.log_odds:.2f} nats short of {answer}, which is "
                f"{times(found.log_odds)} as probable."
            )
        else:
            before[0] += (
                f" The model's file itself has it before {answer}, but it has seen this row of val."
            )
        changes = self._changes()
        helping = [text for text, then in changes if then.first.label == right]
        if helping:
            before.append(
                f"Any one of these changes would have given {right}: {listed(helping, 99)}."
            )
        else:
            before.append(f"None of the changes below would have given {right}.")
        rows = [
            [text, then.first.label, share(then.answer), share(then.other)]
            for text, then in changes
        ]
        table = Table(["change", "first answer then", answer, right], rows, 2)
        after = [
            f"The most similar training artefact of {right} is {nearest(mistake.nearest)}; that of "
            f"{answer} is {nearest(mistake.nearest_answered)}.",
            f"Train has {mistake.training_rows:,} of {right} and "
            f"{mistake.training_rows_answered:,} of {answer}. Of the {mistake.rows:,} rows of "
            f"{right} in val and test, {_are(mistake.taken, mistake.rows)} taken for {answer}.",
        ]
        return Section("What would have been needed", before, table, after)

    def _changes(self) -> list[tuple[str, Variant]]:
        """The single changes of an artefact or of the model, and what it says then."""
        found = self.found
        changes = [(WITHOUT, found.without_sizes)] if found.without_sizes else []
        changes += [(f"without the part {part.name}", part) for part in found.without_members]
        return changes + [
            (f"with {self._kind(group.name)} of {self._others}, on average", group)
            for group in found.groups
        ]


def signed(number: float, digits: int = 2) -> str:
    """A number with its sign, that of a minus as it is printed."""
    return f"{number:+z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def times(log_odds: float) -> str:
    """How many times as probable, from log-odds in nats that are not negative."""
    if log_odds > math.log(1e6):
        return "more than a million times"
    many = math.exp(log_odds)
    return f"{many:,.{1 if many < 100 else 0}f} times"


def choice(then: Variant) -> str:
    """`Gold (31.4 %)`"""
    return f"{then.first.label} ({share(then.first.probability)})"


def nearest(similar: Similar | None) -> str:
    """`a.jpg (similarity 0.61)`"""
    if similar is None:
        return "none: there is no other"
    return f"{similar.image_file} (similarity {similar.cosine:.2f})"


def _are(number: int, count: int) -> str:
    """`none is`, `1 is`, `2 are`, `all are`, of so many."""
    shown = "all" if number == count > 1 else number or "none"
    return f"{shown} {'are' if number > 1 else 'is'}"


def as_text(telling: Telling) -> str:
    """What is told, for a terminal of `COLUMNS` columns, with nothing that it would obey."""
    parts = [f"{_wrapped(telling.title)}\n{_wrapped(telling.about)}"]
    if telling.banner:
        parts.append(_wrapped(telling.banner))
    for section in telling.sections:
        parts.append(_wrapped(section.title.upper()))
        parts += map(_wrapped, section.before)
        if section.table is not None:
            parts.append("\n".join(_lines(section.table)))
        parts += map(_wrapped, section.after or [])
    return "\n\n".join(parts)


def _wrapped(text: str) -> str:
    return textwrap.fill(_plain(text).replace(" %", "\N{NO-BREAK SPACE}%"), COLUMNS)


def _plain(text: str) -> str:
    return shorten(text, len(text))


def _lines(table: Table) -> list[str]:
    """A table in columns; what does not fit in its column goes on in the next line."""
    rows = [[_plain(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + GAP * (len(widths) - 1) > COLUMNS and max(widths) > LEAST:
        widths[widths.index(max(widths))] -= 1
    lines = []
    for row in rows:
        cells = [textwrap.wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        for place in range(max(map(len, cells))):
            texts = [cell[place] if place < len(cell) else "" for cell in cells]
            texts = [
                text.rjust(width) if column >= len(row) - table.numbers else text.ljust(width)
                for column, (text, width) in enumerate(zip(texts, widths, strict=True))
            ]
            lines.append((" " * GAP).join(texts).rstrip())
    return lines


def as_page(telling: Telling, pictures: Mapping[str, Picture]) -> str:
    """What is told, as a page in HTML of one file; `pictures` are by image file."""
    return render(TEMPLATE, telling=telling, pictures=pictures)
