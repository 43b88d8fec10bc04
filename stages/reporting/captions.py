"""What the numbers of a run mean, in sentences that are computed from them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.model_file.making import members_of, steps_of, too_few_rows, what_members_add
from stages.model_file.words import Words
from stages.reporting.families import family_of
from stages.tables.split import NEAR_DUPLICATE, How
from stages.tables.values import UNKNOWN

BASELINES = {
    "majority": "always naming the most frequent {label}",
    "nearest_centroid": "naming the {label} whose mean features are nearest",
    "sizes": "looking at the sizes alone",
}
# Of fewer rows, nothing is claimed: half of the 95 % interval of a share of 30 is up to 17 points.
FEW_ROWS = 30
WORTH_A_LIMIT = 0.02  # of accuracy: a kind of features that is worth more has its limit on the page
# A figure has no more labels: nobody could read them. A list has no more confused pairs.
MOST_LABELS = 60
MOST_PAIRS = 10


def percent(share: float, digits: int = 1) -> str:
    """0.314 as `31.4 %`"""
    return f"{100 * share:.{digits}f} %"


def whole_percent_below(share: float) -> str:
    """0.899 as `89 %`: what a share is at least."""
    # Rounded first, as 100 * 0.29 is 28.999999999999996.
    return f"{math.floor(round(100 * share, 4))} %"


def points(difference: float) -> str:
    """0.052 as `5.2 points`, of a percentage."""
    return f"{100 * difference:.1f} points"


def listed(names: Iterable[str], most: int = 6) -> str:
    """`a, b and c`; what is beyond `most` names is counted."""
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def counted(number: int, one: str, more: str | None = None) -> str:
    """`1 row`, `2 rows`"""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def used_step(curve: pd.DataFrame, model: dict[str, Any]) -> pd.Series:
    """The row of a training curve at which the model, of this metadata, is as it is used."""
    if members_of(model):
        return curve.iloc[-1]
    return curve.loc[curve["val_log_loss"].idxmin()]


def confused_pairs(confusion: pd.DataFrame, most: int = MOST_PAIRS) -> pd.DataFrame:
    """The pairs with most mistakes: actual, predicted, count, share of the actual label's rows.

    `confusion` has the columns actual, predicted and count.
    """
    table = confusion.assign(rows=confusion.groupby("actual")["count"].transform("sum"))
    wrong = table[(table["actual"] != table["predicted"]) & (table["count"] > 0)]
    wrong = wrong.sort_values(["count", "actual", "predicted"], ascending=[False, True, True])
    return wrong.assign(share=wrong["count"] / wrong["rows"]).head(most)


@dataclass(frozen=True)
class Captions:
    """Sentences with the words that a run has for its labels and groups."""

    words: Words

    def rows(self, counts: pd.DataFrame) -> str:
        """On the rows of each label (index) from each group (columns)."""
        label, labels, group = self.words.label, self.words.labels, self.words.group
        totals = counts.sum(axis="columns")
        text = (
            f"The table has {counted(int(totals.sum()), 'row')} of "
            f"{counted(len(totals), label, labels)}. "
        )
        if totals.nunique() == 1:
            text += f"Each {label} has {counted(int(totals.iloc[0]), 'row')}. "
        else:
            most, fewest = (totals.index[totals == totals.agg(end)] for end in ("max", "min"))
            text += (
                f"{listed(most, 3)} {'has' if len(most) == 1 else 'each have'} most rows, "
                f"{totals.max():,} ({percent(totals.max() / totals.sum())}), {listed(fewest, 3)} "
                f"fewest, {totals.min():,}. "
            )
        text += self._shown(len(totals))
        named = counts.columns.drop(UNKNOWN, errors="ignore")
        if not len(named):
            return text + f"No row names its {group}."
        if counts.shape[1] == 1:
            return text + f"All come from one {group} ({named[0]})."
        # Where some rows name none, nobody knows how many groups there are.
        groups_of = (counts[named] > 0).sum(axis="columns")
        rows_named = counts[named].sum(axis="columns")
        single = counts.index[(groups_of == 1) & (rows_named == totals)]
        if len(single):
            verb, pronoun = ("comes", "it") if len(single) == 1 else ("come", "them")
            return text + (
                f"{listed(single)} {verb} from one {group} only, so that whatever gives the "
                f"{group} away gives {pronoun} away too."
            )
        if (groups_of > 1).all():
            return text + f"Every {label} comes from more than one {group}."
        return text + f"Some rows do not name their {group}."

    def _shown(self, count: int) -> str:
        """That a figure does not have all labels, where it has not."""
        if count <= MOST_LABELS:
            return ""
        return (
            f"The figure shows the {MOST_LABELS} {self.words.labels} with most rows, of {count:,}; "
            "the table has all. "
        )

    def sizes(self, width: np.ndarray, height: np.ndarray, museum: np.ndarray) -> str:
        """On the pixels (n,) of photographs of groups (n,)."""
        longer = pd.Series(np.maximum(width, height))
        of_museum = longer.groupby(np.asarray(museum))
        medians = of_museum.median()[of_museum.size() >= FEW_ROWS].drop(UNKNOWN, errors="ignore")
        text = f"The median of the longer sides is {longer.median():,.0f} pixels"
        if len(medians) > 1:
            text += (
                f": from {medians.min():,.0f} at {medians.idxmin()} to {medians.max():,.0f} at "
                f"{medians.idxmax()}"
            )
            if medians.max() > 1.2 * medians.min():
                text += (
                    f". So a size says something about the {self.words.group}, not only about what "
                    "is on the photograph"
                )
        upright = float(np.mean(height > width))
        return text + f". {percent(upright, 0)} are taller than wide."

    def near_duplicates(self, split: pd.DataFrame, search: How) -> str:
        """On the columns subset, medium, nearest_medium and nearest_train_cosine of all rows."""
        known = split[split["nearest_train_cosine"].notna()]
        if known.empty:
            return "Without embeddings, nobody can look for near-duplicates."
        near = known[known["nearest_train_cosine"] > NEAR_DUPLICATE]
        counts = {subset: int((near["subset"] == subset).sum()) for subset in ("val", "test")}
        totals = {subset: int((known["subset"] == subset).sum()) for subset in ("val", "test")}
        text = (
            f"{counts['test']:,} of the {totals['test']:,} test rows "
            f"({percent(counts['test'] / max(1, totals['test']))}) and {counts['val']:,} of the "
            f"{totals['val']:,} of val have a training row whose embedding is nearly the same "
            f"(cosine above {NEAR_DUPLICATE}, after standardisation)."
        )
        if search == "approximate":
            text += (
                f" Among {counted(len(split), 'row')} not all pairs were compared: an index has "
                "looked for the nearest, and a few may be missing."
            )
        if len(near):
            same = int((near["medium"] == near["nearest_medium"]).sum())
            have = "has" if same == 1 else "have"
            text += (
                f" {same:,} of these {len(near):,} {have} the {self.words.label} of that training "
                "row."
            )
        if len(near) >= FEW_ROWS and same > len(near) / 2:
            text += " They are often two photographs of one thing, and flatter every model."
        return text

    def embedding(self, mean: np.ndarray, std: np.ndarray, zeros: float) -> str:
        """On the means and standard deviations (d,) of its numbers, and the share that is 0."""
        text = (
            f"An embedding has {len(mean):,} numbers. Over the training rows their means go from "
            f"{mean.min():.2f} to {mean.max():.2f} and their standard deviations from "
            f"{std.min():.2f} to {std.max():.2f}. {percent(zeros)} of all numbers are exactly 0."
        )
        constant = int((std == 0).sum())
        if constant:
            what = "is the same in all rows and tells" if constant == 1 else "are the same and tell"
            text += f" {counted(constant, 'number')} {what} nothing."
        if std.min() * 2 < std.max():
            text += (
                " As they are, numbers that vary more would count more; standardised, all count "
                "alike."
            )
        return text

    def embedding_map(self, place: np.ndarray, mediums: np.ndarray, explained: float) -> str:
        """On the places (n, 2) of artefacts on the map, and the share of variance it shows."""
        table = pd.DataFrame(place, columns=["x", "y"])
        text = (
            "The map shows the two directions in which embeddings of "
            f"{counted(len(table), 'training row')} differ most. They hold "
            f"{percent(explained, 0)} of the variance, so that "
            f"{self.words.labels} that overlap here may be apart in the other directions."
        )
        of_medium = table.groupby(np.asarray(mediums))
        common = of_medium.size() >= FEW_ROWS
        if common.sum() < 2:
            return text
        centres = of_medium.mean()[common]
        spread = of_medium.std()[common].pow(2).sum(axis=1).pow(0.5)
        apart = np.linalg.norm(centres.to_numpy()[:, None] - centres.to_numpy()[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        one, other = np.unravel_index(apart.argmin(), apart.shape)
        text = f"{text} {self._shown(len(of_medium))}".rstrip()
        if not common.all():
            text += f" Of the {self.words.labels} with at least {FEW_ROWS} of these rows:"
        return text + (
            f" {spread.idxmin()} lies closest together, {spread.idxmax()} is the most spread out. "
            f"The centres of {centres.index[one]} and {centres.index[other]} are nearest to each "
            "other."
        )

    def training(self, curve: pd.DataFrame, model: dict[str, Any]) -> str:
        """On the training curve, which may be empty, of a model with this metadata."""
        if curve.empty:
            return f"{model['model']} is fitted in one step, so that there is no curve."
        used, steps = used_step(curve, model), steps_of(curve, model)
        learned, new = used["train_accuracy"], used["val_accuracy"]
        if steps:
            return (
                f"{what_members_add(steps)} With all, {percent(learned)} of the training rows are "
                f"right, which the members have learned from, and {percent(new)} of val, by what "
                "they say of rows that they have not seen."
            )
        text = f"The log loss on val is lowest, {used['val_log_loss']:.4f}, "
        if len(curve) == 1:
            text += "after its only step. "
        elif used["iteration"] == curve.iloc[-1]["iteration"]:
            text += f"after the last of {len(curve)} steps. It still fell, so that more may help. "
        else:
            text += (
                f"at step {used['iteration']:.0f} of {len(curve)}: from there on the model "
                "learns the training rows by heart, and the later ones are not used. As val chose "
                "this step, its metrics here are a little too good. "
            )
        if not np.isnan(learned):
            text += (
                f"There, {percent(learned)} of the training rows are right and {percent(new)} of "
                f"val, {points(abs(learned - new))} apart."
            )
            if model["parameters"]["refit_on_val"]:
                text += " All this was before the model learned from val too."
        return text.strip()

    def headline(self, metrics: dict[str, Any]) -> str:
        """On the accuracy on test beside the baselines; `metrics` is metrics.json."""
        accuracy = metrics["test"]["accuracy"]
        low, high = (metrics["test_interval"]["accuracy"][end] for end in ("low", "high"))
        baselines = {name: found["accuracy"] for name, found in metrics["baseline"].items()}
        best = max(baselines, key=lambda name: baselines[name])
        text = (
            f"The model names {percent(accuracy)} of the test rows right. Over all rows of this "
            f"kind, it may be from {percent(low)} to {percent(high)}: of intervals that are made "
            "like this, about 95 of 100 hold the true value. The best baseline, "
            f"{self.words.fill(BASELINES[best])}, has {percent(baselines[best])}: "
        )
        if baselines[best] < low:
            text += f"{points(accuracy - baselines[best])} less, below that interval."
        elif baselines[best] > high:
            text += "that is above the interval, and the model should not be used."
        else:
            text += "that is within the interval, so that the model may be no better."
        distinct = metrics.get("test_without_near_duplicates")
        if distinct and distinct["rows"] >= FEW_ROWS:
            text += (
                f" On the {distinct['rows']:,} test rows without a near-duplicate in train, it is "
                f"right in {percent(distinct['accuracy'])}."
            )
        return text

    def per_class(self, table: pd.DataFrame) -> str:
        """On recall and F1 of each label."""
        known = table[table["rows"] >= FEW_ROWS].sort_values(["recall", "medium"])
        text = ""
        if len(known) == 1:
            only = known.iloc[0]
            text = (
                f"Only {only['medium']} has at least {FEW_ROWS} rows: {percent(only['recall'])} of "
                f"its {only['rows']:,.0f} are recognised."
            )
        elif len(known):
            text = (
                f"Of the {len(known)} {self.words.labels} with at least "
                f"{FEW_ROWS} rows, {self._best_and_worst(known)}. "
            )
            high, low = int((known["recall"] >= 0.9).sum()), int((known["recall"] < 0.5).sum())
            text += (
                f"{high} of them {'has' if high == 1 else 'have'} a recall of at least 90 %, "
                f"{low} of less than half."
            )
        text = f"{text} {self._shown(len(table))}".rstrip()
        few = table[(table["rows"] > 0) & (table["rows"] < FEW_ROWS)]["medium"]
        if len(few):
            text += (
                f" Fewer than {FEW_ROWS} rows, so that little can be said of them: {listed(few)}."
            )
        empty = table[table["rows"] == 0]["medium"]
        if len(empty):
            text += f" No rows to measure on: {listed(empty)}."
        return text.strip()

    def _best_and_worst(self, known: pd.DataFrame) -> str:
        """Which labels have the highest and the lowest recall; `known` is sorted by it."""
        worst, best = (known[known["recall"] == known["recall"].iloc[end]] for end in (0, -1))
        recalls = percent(best["recall"].iloc[0]), percent(worst["recall"].iloc[0])
        if len(best) == len(known):
            return f"all are recognised alike, {recalls[0]} of their rows"
        # Labels that share a recall may differ in their rows.
        of_best = of_worst = ""
        if len(best) == 1:
            of_best = f" of its {best['rows'].iloc[0]:,.0f} rows"
        if len(worst) == 1:
            line = worst.iloc[0]
            of_worst = (
                f" of {line['rows']:,.0f} (interval {percent(line['recall_low'], 0)} to "
                f"{percent(line['recall_high'], 0)})"
            )
        return (
            f"{listed(best['medium'], 3)} {'is' if len(best) == 1 else 'are'} recognised best, "
            f"{recalls[0]}{of_best}, {listed(worst['medium'], 3)} worst, {recalls[1]}{of_worst}"
        )

    def confusion(self, table: pd.DataFrame) -> str:
        """On the pairs that are taken for each other; columns actual, predicted, count."""
        pairs = confused_pairs(table, most=len(table))
        if pairs.empty:
            return f"No row is taken for another {self.words.label}."
        first, errors = pairs.iloc[0], pairs["count"].sum()
        of_rows = f"{first['count']:,} of {counted(first['rows'], 'row')}"
        share = f"in {percent(first['share'], 0)} of cases ({of_rows})"
        of_rows = share if first["rows"] >= FEW_ROWS else f"in {of_rows}"
        alike = int((pairs["count"] == first["count"]).sum())
        rank = "the largest single confusion"
        if alike > 1:
            rank = f"one of the {alike} largest confusions"
        text = f"{first['actual']} is taken for {first['predicted']} {of_rows}, {rank}. "
        if len(pairs) > MOST_PAIRS:
            share = percent(pairs["count"].head(MOST_PAIRS).sum() / errors, 0)
            text += f"The {MOST_PAIRS} largest make up {share} of all {counted(errors, 'error')}. "
        else:
            text += f"There {'is' if errors == 1 else 'are'} {counted(errors, 'error')} in all. "
        if table["actual"].nunique() > MOST_LABELS:
            text += (
                f"The figure shows the {MOST_LABELS} {self.words.labels} with most errors, of "
                f"{table['actual'].nunique():,}. "
            )
        family = pairs["actual"].map(family_of)
        inside = pairs["count"].where(family == pairs["predicted"].map(family_of), 0)
        inside_of = inside.groupby(family).sum()
        if not inside_of.empty and inside_of.max() > 0:
            name = inside_of.idxmax()
            members = sorted(m for m in table["actual"].unique() if family_of(m) == name)
            text += (
                f"Mistakes among the {name} ({listed(members)}) make up "
                f"{percent(inside_of.max() / errors, 0)} of all errors, and those within any one "
                f"family {percent(inside.sum() / errors, 0)}."
            )
        return text.strip()

    def reliability(
        self, bins: pd.DataFrame, metrics: dict[str, float], expected: dict[str, Any]
    ) -> str:
        """On how sure the model is.

        `bins` has the columns confidence, accuracy, low, high, rows. `metrics` are those of the
        same rows, and `expected` what a calibrated model would have.
        """
        share = bins["rows"] / bins["rows"].sum()
        confidence, accuracy = float((bins["confidence"] * share).sum()), metrics["accuracy"]
        low, high = expected["accuracy"]["low"], expected["accuracy"]["high"]
        text = (
            f"Its first answers have a mean probability of {percent(confidence)}, and "
            f"{percent(accuracy)} of them are right. Were each probability exactly right, chance "
            f"would put that between {percent(low)} and {percent(high)} in 95 of 100 cases: "
        )
        if low <= accuracy <= high:
            text += "on the whole, the model is as sure as it should be. "
        elif accuracy < low:
            text += "the model is surer than it should be. "
        else:
            text += "the model is less sure than it could be. "
        error, limit = metrics["calibration_error"], expected["calibration_error"]["high"]
        text += (
            f"Over all bins the difference is {points(error)} (calibration error). Exactly right "
            f"probabilities would show {points(expected['calibration_error']['mean'])} on average, "
            f"by chance, and more than {points(limit)} in 5 of 100 cases"
        )
        text += ": nothing speaks against them." if error <= limit else ": these are off by more."
        common = bins[bins["rows"] >= FEW_ROWS]
        beyond = np.maximum(common["low"] - common["accuracy"], common["accuracy"] - common["high"])
        if len(common):
            count = int((beyond > 0).sum())
            lies = "lies beyond its range" if count == 1 else "lie beyond their ranges"
            text += (
                f" Of the {counted(len(common), 'bin')} with at least {FEW_ROWS} rows, "
                f"{count or 'none'} {lies}; by chance, one in 20 does."
            )
            if count and error > limit:
                worst = common.loc[beyond.idxmax()]
                text += (
                    f" The farthest is where the model says {percent(worst['confidence'], 0)}: "
                    f"{percent(worst['accuracy'], 0)} are right, and chance explains "
                    f"{percent(worst['low'], 0)} to {percent(worst['high'], 0)}."
                )
        return text

    def museums(self, table: pd.DataFrame) -> str:
        """On the accuracy in each group: museum, rows, accuracy, low, high."""
        group, groups = self.words.group, self.words.groups
        if len(table) == 1:
            if table["museum"].iloc[0] == UNKNOWN:
                return f"No row names its {group}, so that there is nothing to compare."
            return f"All rows are of one {group}, so that there is nothing to compare."
        table = table[table["museum"] != UNKNOWN]
        few = table[table["rows"] < FEW_ROWS]["museum"]
        table = table[table["rows"] >= FEW_ROWS]
        text = ""
        if len(table) == 1 and not len(few):
            text = f"One {group} only is named, so that there is nothing to compare."
        elif len(table) > 1 and table["accuracy"].nunique() == 1:
            text = f"The accuracy is {percent(table['accuracy'].iloc[0])} at each {group}."
        elif len(table) > 1:
            best, worst = (table.loc[table["accuracy"].agg(end)] for end in ("idxmax", "idxmin"))
            text = (
                f"The accuracy is highest at {best['museum']}, {percent(best['accuracy'])}, and "
                f"lowest at {worst['museum']}, {percent(worst['accuracy'])}. "
            )
            if worst["high"] < best["low"]:
                text += (
                    f"Their intervals do not overlap. The {groups} have other {self.words.labels} "
                    "and other photographs, so that this says more about what they hold than about "
                    "the model."
                )
            else:
                text += "Their intervals overlap, so that the difference may be chance."
        if len(few):
            text += f" Fewer than {FEW_ROWS} rows, too few to say anything: {listed(few)}."
        return text.strip()

    def importance(self, table: pd.DataFrame) -> str:
        """On the accuracy lost without a kind of features: group, accuracy_drop, low, high."""
        first, *others = table.sort_values("accuracy_drop", ascending=False).itertuples()
        text = f"With the {self.kind(first.group)} of another row, the model would "
        if first.low > 0:
            text += f"lose {points(first.accuracy_drop)} of accuracy."
        else:
            text += "be as good within chance."
        for other in others:
            text += f" Without the {self.kind(other.group)} it would "
            if other.low > 0:
                text += (
                    f"lose {points(other.accuracy_drop)} "
                    f"({100 * other.low:.1f} to {100 * other.high:.1f})."
                )
            else:
                text += "be as good within chance."
        return text

    def kind(self, name: str) -> str:
        """What a kind of features is called: the column `museum` is the group."""
        return self.words.group if name == "museum" else name

    def mistakes(self, table: pd.DataFrame) -> str:
        """On the most confident mistakes: medium, predicted, probability."""
        if table.empty:
            return "There is no mistake to show."
        least = whole_percent_below(table["probability"].min())
        each = (
            "this wrong answer" if len(table) == 1 else f"each of these {len(table)} wrong answers"
        )
        text = f"The model is at least {least} sure of {each}. "
        families = [(family_of(row.medium), family_of(row.predicted)) for row in table.itertuples()]
        if any(family is not None for pair in families for family in pair):
            same = sum(one is not None and one == other for one, other in families)
            text += (
                f"{same} of them {'stays' if same == 1 else 'stay'} within a family of "
                f"{self.words.labels}. "
            )
        return text + "Some of them may be wrong labels: look at these photographs first."

    def limits(
        self,
        metrics: dict[str, Any],
        table: pd.DataFrame,
        groups: pd.DataFrame,
        model: dict[str, Any],
    ) -> list[str]:
        """What to keep in mind.

        From the metrics, those by label, the importances and the model's metadata.
        """
        found = []
        if metrics["data"]["source"] == "synthetic":
            found.append("The data is synthetic. No number here says anything about photographs.")
        low, high = (metrics["test_interval"]["accuracy"][end] for end in ("low", "high"))
        found.append(
            "By chance in the choice of test rows, the accuracy may be off by about "
            f"{points((high - low) / 2)} to each side. Smaller differences between models say "
            "nothing by themselves; `python -m commands.compare` tests them on the same rows."
        )
        few = table[(table["rows"] > 0) & (table["rows"] < FEW_ROWS)]
        if len(few):
            found.append(
                f"{counted(len(few), self.words.label, self.words.labels)} of {len(table)} "
                f"{'has' if len(few) == 1 else 'have'} fewer than {FEW_ROWS} rows here: "
                "their metrics may be far off."
            )
        distinct = metrics.get("test_without_near_duplicates")
        if distinct and distinct["rows"] >= FEW_ROWS:
            lost = metrics["test"]["accuracy"] - distinct["accuracy"]
            added = (
                f"Near-duplicates add {points(lost)} to the accuracy. "
                if round(lost, 3) > 0
                else ""
            )
            unsearched = (
                " Near-duplicates in val, from which it has learned too, were not looked for."
                if model["parameters"]["refit_on_val"]
                else ""
            )
            found.append(
                f"{added}Of artefacts that are really new, expect "
                f"{percent(distinct['accuracy'])} to be named right.{unsearched}"
            )
        worth = groups.set_index("group")["accuracy_drop"]
        for kind in model["kinds"]:
            lost = worth.get(kind["name"], 0)
            if kind["limit"] and lost > WORTH_A_LIMIT:
                found.append(
                    f"Without the {self.kind(kind['name'])} the accuracy would be {points(lost)} "
                    f"lower. {self.words.fill(kind['limit'])}"
                )
        if few := too_few_rows(model):
            found.append(few)
        named = [name for name in metrics["test_museum"] if name != UNKNOWN]
        if len(named) > 1:
            found.append(
                f"All {len(named)} {self.words.groups} of test may also be in train. One that was "
                "not is harder: `split.strategy=holdout_museum` measures it."
            )
        found.append(
            f"The model answers with one of its {self.words.labels} whatever it is shown, also for "
            "what it has never seen."
        )
        return found

    def to_try(
        self,
        metrics: dict[str, Any],
        curve: pd.DataFrame,
        table: pd.DataFrame,
        model: dict[str, Any],
    ) -> list[str]:
        """What to try next.

        From the metrics, the training curve, those by label, and the model's metadata.
        """
        found = []
        if metrics["data"]["source"] == "synthetic":
            found.append("Run it on real data: `dvc exp run -S download.source=mame`.")
        known = table[(table["rows"] >= FEW_ROWS) & (table["recall"] < 1)]
        known = known.sort_values(["recall", "medium"])
        if len(known):
            found.append(
                f"Collect more rows of {listed(known['medium'].head(3))}, which are recognised "
                "least often, or look whether people can tell them from a photograph at all."
            )
        if not curve.empty:
            used = used_step(curve, model)
            gap = used["train_accuracy"] - used["val_accuracy"]
            if gap > 0.1:
                # A penalty that was chosen by rows that are left out is as strong as it should be.
                tuned = any("penalty" in values for values in model["chosen"].values())
                remedy = "more rows" if tuned else "more rows, or a stronger penalty,"
                found.append(f"Train is {points(gap)} ahead of val: {remedy} may help.")
        error = metrics["test"]["calibration_error"]
        limit = metrics["test_if_calibrated"]["calibration_error"]["high"]
        if error > limit:
            found.append(
                f"The calibration error is {points(error)}, and chance explains {points(limit)}. "
                "More rows to calibrate it with may help: those of train and val for a blend, "
                "those of val for one model."
            )
        top3, accuracy = metrics["test"]["top3_accuracy"], metrics["test"]["accuracy"]
        if len(table) > 3 and top3 > accuracy:
            found.append(
                f"Show three answers instead of one: the right {self.words.label} is among them in "
                f"{percent(top3)} of cases, against {percent(accuracy)}."
            )
        return found
