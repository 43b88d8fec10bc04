"""The rows that break a rule of the contract: count them, name them, set them aside."""

import csv
from collections import Counter
from dataclasses import dataclass, field

from stages.common.errors import shorten
from stages.common.files import csv_line
from stages.parser.contract import MOST_TEXT, RULES
from stages.parser.csv_file import CsvFile
from stages.parser.raw_file import RawFile
from stages.tables.quarantine import QUARANTINE_COLUMNS

# Rows that an error shows.
SHOWN = 10


@dataclass
class Problem:
    """A rule that a row breaks."""

    row: int  # counted from 1, without the header
    rule: str
    image_file: str
    value: str
    line: int | None = None  # of a CSV file, counted from 1 with the header
    earlier_row: int | None = None  # the row that has the same image file


@dataclass
class BadRows:
    """The rows that break a rule, as far as they have been found.

    `keep_all` keeps every problem; otherwise only those of the rows that an error shows.
    """

    keep_all: bool
    count: int = 0
    count_of_rule: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def add(self, problems: list[Problem]) -> None:
        """Add all problems of one row."""
        self.count += 1
        self.count_of_rule.update(problem.rule for problem in problems)
        if self.keep_all or self.count <= SHOWN:
            self.problems += problems

    def locate(self, raw: RawFile, image_file_column: str) -> None:
        """Find the lines of a CSV file, and its rows with too many or too few fields.

        The batches lack those rows, so the numbers of all rows after them shift.
        """
        if not isinstance(raw, CsvFile) or not (self.problems or raw.skipped_rows):
            return
        waiting = {problem.row for problem in self.problems}
        waiting |= {p.earlier_row for p in self.problems if p.earlier_row is not None}
        to_describe = raw.skipped_rows if self.keep_all else min(SHOWN, raw.skipped_rows)
        place_of_image = raw.names.index(image_file_column)
        places: dict[int, tuple[int, int]] = {}  # row of the batches -> row and line of the file
        skipped: list[Problem] = []
        for row, (line, fields) in enumerate(raw.records(), 1):
            if len(fields) == len(raw.names):
                row_of_batches = row - len(skipped)
                if row_of_batches in waiting:
                    places[row_of_batches] = (row, line)
                    waiting.remove(row_of_batches)
            else:
                image_file = fields[place_of_image] if place_of_image < len(fields) else ""
                value = f"{len(fields):,} instead of {len(raw.names):,}"
                skipped.append(Problem(row, "fields", image_file, value, line))
            if not waiting and len(skipped) >= to_describe:
                break
        for problem in self.problems:
            problem.row, problem.line = places[problem.row]
            if problem.earlier_row is not None:
                problem.value = f"as in line {places[problem.earlier_row][1]:,}"
        self.problems = sorted([*self.problems, *skipped], key=lambda problem: problem.row)
        self.count += raw.skipped_rows
        if raw.skipped_rows:
            self.count_of_rule["fields"] = raw.skipped_rows

    def report(self, rows: int) -> str:
        """How many of `rows` rows break which rule, and what to do about it."""
        rules = "; ".join(
            f"{count:,} {RULES[rule].broken if count == 1 else RULES[rule].broken_by_many}"
            for rule, count in self.count_of_rule.most_common()
        )
        advice = "".join(f" {RULES[r].advice}." for r in self.count_of_rule if RULES[r].advice)
        return f"bad rows: {self.count:,} of {rows:,} ({rules}).{advice}"

    def first(self) -> str:
        """The first bad rows, indented, with a line for each rule that one breaks."""
        shown: list[str] = []
        rows = sorted({problem.row for problem in self.problems})[:SHOWN]
        for problem in self.problems:
            if problem.row in rows:
                place = f"row {problem.row:,}" if problem.line is None else f"line {problem.line:,}"
                shown.append(
                    f"{place}, image file {shorten(problem.image_file) or 'not named'}: "
                    f"{RULES[problem.rule].broken}: {shorten(problem.value)}"
                )
        return "\n  ".join(["The first:", *shown])

    def csv(self) -> str:
        """All problems as the text of a CSV table with the columns `QUARANTINE_COLUMNS`."""
        rows = [
            (
                problem.row,
                problem.line,
                shorten(problem.image_file, MOST_TEXT),
                problem.rule,
                shorten(problem.value),
                RULES[problem.rule].broken,
            )
            for problem in self.problems
        ]
        lines = [csv_line(row, csv.QUOTE_NONNUMERIC) for row in (QUARANTINE_COLUMNS, *rows)]
        return "".join(lines)
