"""Captions say what the numbers say, and something else when the numbers are others."""

import copy

import numpy as np
import pandas as pd
import pytest

from stages.model_file.words import Words
from stages.parser.contract import MAME_MEDIUMS
from stages.reporting.captions import Captions, confused_pairs, listed, whole_percent_below
from stages.reporting.families import family_of

captions = Captions(Words("medium", "mediums", "museum", "museums"))

METRICS = {
    "data": {"source": "file", "rows": 500, "quarantined": {"rows": 0}},
    "test": {
        "accuracy": 0.9,
        "top3_accuracy": 0.97,
        "log_loss": 0.3,
        "calibration_error": 0.01,
    },
    "test_interval": {"accuracy": {"low": 0.88, "high": 0.92}},
    "test_if_calibrated": {"calibration_error": {"mean": 0.02, "high": 0.03}},
    "test_museum": {"Met": {"accuracy": 0.9}, "LACMA": {"accuracy": 0.8}},
    "baseline": {
        "majority": {"accuracy": 0.1},
        "nearest_centroid": {"accuracy": 0.7},
        "sizes": {"accuracy": 0.4},
    },
}


def changed(**values):
    """METRICS with other values: `test__accuracy=0.5`."""
    metrics = copy.deepcopy(METRICS)
    for key, value in values.items():
        *parents, last = key.split("__")
        part = metrics
        for parent in parents:
            part = part[parent]
        part[last] = value
    return metrics


def per_class_table(**recalls):
    """A line for each medium, with 100 rows, or none where the recall is None."""
    return pd.DataFrame(
        [
            {
                "medium": medium,
                "rows": 0 if recall is None else 100,
                "recall": np.nan if recall is None else recall,
                "recall_low": 0.1,
                "recall_high": 0.9,
                "f1": recall,
            }
            for medium, recall in recalls.items()
        ]
    )


def confusion_table(**counts):
    """`Etching__Engraving=3`: three etchings were taken for engravings."""
    lines = [(*pair.split("__"), count) for pair, count in counts.items()]
    return pd.DataFrame(lines, columns=["actual", "predicted", "count"])


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b and c"), (list("abcdefgh"), "f and 2 more")],
)
def test_a_list_reads_as_people_write_it(names, text):
    assert listed(names).endswith(text)


def test_families_go_by_the_words_of_a_name():
    assert family_of("Hand-colored etching") == "print techniques"
    assert family_of("Wood engraving") == "print techniques"
    assert family_of("Polychromed wood") == "wood"
    assert family_of("Silk and metal thread") == "textiles"
    assert family_of("Oil on canvas") == "paintings and drawings"
    assert family_of("Goldfish") is None  # a part of a word is not that word
    with_family = [medium for medium in MAME_MEDIUMS if family_of(medium)]
    assert set(MAME_MEDIUMS) - set(with_family) == {"Albumen photograph", "Glass", "Ivory"}


def test_rows_name_the_mediums_of_a_single_museum():
    counts = pd.DataFrame({"Met": [5, 20], "LACMA": [5, 0]}, index=["Clay", "Gold"])
    text = captions.rows(counts)
    assert "30 rows of 2 mediums. Gold has most rows, 20 (66.7 %), Clay fewest, 10." in text
    assert "Gold comes from one museum only" in text
    counts.loc["Gold", "LACMA"] = 1
    assert "Every medium comes from more than one museum." in captions.rows(counts)
    assert "All come from one museum (Met)." in captions.rows(counts[["Met"]])
    counts.loc["Clay"] = [20, 1]
    assert "Each medium has 21 rows." in captions.rows(counts)


def test_rows_name_all_mediums_that_share_the_most_or_the_fewest_rows():
    counts = pd.DataFrame({"Met": [9, 9, 3, 3, 3, 3]}, index=list("ABCDEF"))
    text = captions.rows(counts)
    assert "A and B each have most rows, 9 (30.0 %), C, D, E and 1 more fewest, 3." in text


def test_a_row_that_names_no_museum_is_not_of_a_museum_called_unknown():
    counts = pd.DataFrame({"Met": [5, 5], "LACMA": [5, 5], "unknown": [1, 0]}, ["Clay", "Gold"])
    assert "Every medium comes from more than one museum." in captions.rows(counts)
    counts.loc["Clay", "LACMA"] = 0  # the unknown one may be of LACMA
    text = captions.rows(counts)
    assert text.endswith("Some rows do not name their museum.")
    counts.loc["Clay"] = [0, 0, 9]
    assert captions.rows(counts).endswith("Some rows do not name their museum.")
    counts.loc["Gold"] = [9, 0, 0]
    assert "Gold comes from one museum only" in captions.rows(counts)
    table = pd.DataFrame(
        {"museum": ["A", "B", "unknown"], "accuracy": [0.9, 0.5, 0.1], "low": 0.4, "high": 0.6}
    ).assign(rows=30)
    assert "lowest at B" in captions.museums(table)
    assert captions.museums(table.drop(1)) == (
        "One museum only is named, so that there is nothing to compare."
    )


def test_sizes_say_when_they_give_the_museum_away():
    width = np.repeat([1000.0, 3000, 9000], [30, 30, 29])
    museum = np.repeat(["Met", "LACMA", "Tate"], [30, 30, 29])
    text = captions.sizes(width, width / 2, museum)
    # Of the museum with 29 rows, nothing is claimed.
    middle = "median of the longer sides is 3,000 pixels: from 1,000 at Met to 3,000 at LACMA. So"
    assert f"{middle} a size says" in text
    assert "0 % are taller than wide" in text
    same = captions.sizes(np.full(89, 900.0), np.full(89, 1000.0), museum)
    assert "So a size says" not in same
    assert "100 % are taller than wide" in same


def test_near_duplicates_are_counted_by_subset():
    table = pd.DataFrame(
        {
            "subset": ["train", "val", "test", "test"],
            "medium": ["Clay", "Clay", "Clay", "Gold"],
            "nearest_medium": [None, "Clay", "Clay", "Clay"],
            "nearest_train_cosine": [np.nan, 0.5, 0.95, 0.81],
        }
    )
    text = captions.near_duplicates(table, "exact")
    assert "2 of the 2 test rows (100.0 %) and 0 of the 1 of val" in text
    assert "1 of these 2 has the medium of that training row." in text
    assert "two photographs" not in text  # two rows are too few to say so
    many = pd.concat([table] * 15)
    assert "15 of these 30 have the medium" in captions.near_duplicates(many, "exact")
    assert "two photographs" not in captions.near_duplicates(many, "exact")
    many["nearest_medium"] = many["medium"]
    assert "They are often two photographs of one thing" in captions.near_duplicates(many, "exact")
    table["nearest_train_cosine"] = [np.nan, 0.1, 0.2, 0.3]
    text = captions.near_duplicates(table, "exact")
    assert "0 of the 2 test rows (0.0 %)" in text
    assert "two photographs" not in text
    assert "an index" not in text
    text = captions.near_duplicates(table, "approximate")
    assert "Among 4 rows not all pairs were compared: an index has looked for the nearest" in text
    table["nearest_train_cosine"] = np.nan
    assert captions.near_duplicates(table, "exact").startswith("Without embeddings")


def test_the_embedding_is_described_by_its_numbers():
    text = captions.embedding(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.5, 2.0]), 0.25)
    assert "3 numbers" in text
    assert "means go from 1.00 to 3.00" in text
    assert "25.0 % of all numbers are exactly 0. 1 number is the same in all rows and tells" in text
    assert "the same in all rows" not in captions.embedding(np.ones(2), np.ones(2), 0)


def test_the_map_names_the_nearest_centres():
    places = np.array([[0, 0], [0, 2], [1, 1], [1, 1.1], [9, 9], [9, 19]] * 15, dtype=float)
    mediums = np.array(["Clay", "Clay", "Gold", "Gold", "Iron", "Iron"] * 15)
    text = captions.embedding_map(places, mediums, 0.21)
    assert "They hold 21 % of the variance" in text
    assert "Gold lies closest together, Iron is the most spread out" in text
    assert "The centres of Clay and Gold are nearest" in text
    few = np.where(np.arange(90) == 2, "Tin", mediums)  # so that 29 rows are left of Gold
    text = captions.embedding_map(places, few, 0.21)
    assert "Of the mediums with at least 30 of these rows: Clay lies closest" in text
    assert "of Clay and Iron are nearest" in text
    assert captions.embedding_map(places[:9], mediums[:9], 0.21).endswith(
        "in the other directions."
    )


def curve(*val):
    return pd.DataFrame(
        {
            "iteration": np.arange(1, len(val) + 1),
            "train_log_loss": 0.1,
            "val_log_loss": val,
            "train_accuracy": 0.99,
            "val_accuracy": 0.9,
        }
    )


def model_of(*members, refit_on_val=False, **others):
    """The metadata of a model, or of a blend of members."""
    return {
        "model": "ensemble" if members else "mlp",
        "answers": {"probabilities": {"members": list(members)}},
        "parameters": {"refit_on_val": refit_on_val},
        "chosen": {},
        "few_calibrating_rows": False,
        "calibrating_rows": 580,
        **others,
    }


ALONE = model_of()


def test_training_says_where_val_was_best():
    stopped = captions.training(curve(0.5, 0.3, 0.4), ALONE)
    assert "lowest, 0.3000, at step 2 of 3: from there on" in stopped
    assert "As val chose this step, its metrics here are a little too good." in stopped
    assert "99.0 % of the training rows are right and 90.0 % of val, 9.0 points apart" in stopped
    assert "before the model learned from val" not in stopped
    assert "It still fell" in captions.training(curve(0.5, 0.3), ALONE)
    refitted = captions.training(curve(0.5, 0.3), model_of(refit_on_val=True))
    assert refitted.endswith("All this was before the model learned from val too.")
    assert captions.training(curve(), model_of(model="lda")) == (
        "lda is fitted in one step, so that there is no curve."
    )


def test_training_of_a_blend_says_which_member_adds_most_and_which_nothing():
    steps = curve(0.5, 0.45, 0.4492, 0.3).assign(val_accuracy=[0.7, 0.8, 0.85, 0.89])
    text = captions.training(steps, model_of("kernel_ridge", "lda", "mlp", "size_trees"))
    assert text.startswith("`kernel_ridge` comes first. Of the others, `size_trees` adds most: the")
    assert "the log loss on val falls by 0.1492. `mlp` adds nothing to what comes before, " in text
    assert "99.0 % of the training rows are right, which the members have learned from" in text
    assert "89.0 % of val, by what they say of rows that they have not seen." in text
    assert "It still fell" not in text
    # Its last step is what is used, whether or not it was the best.
    worse = captions.training(curve(0.3, 0.31, 0.32), model_of("lda", "mlp", "svm"))
    assert "adds most" not in worse
    assert "`mlp` and `svm` add nothing to what comes before, and may be taken out." in worse
    each = captions.training(curve(0.5, 0.3), model_of("lda", ALONE))
    assert "nothing" not in each
    alone = captions.training(curve(0.5), model_of("lda"))
    assert alone.startswith("The blend has one member only, `lda`. With all, ")


def test_the_headline_compares_with_the_best_baseline():
    text = captions.headline(METRICS)
    assert "names 90.0 % of the test rows right" in text
    assert "it may be from 88.0 % to 92.0 %: of intervals that are made like this, about 95" in text
    assert "mean features are nearest, has 70.0 %: 20.0 points less, below that interval." in text
    equal = captions.headline(changed(baseline__sizes__accuracy=0.89))
    assert "looking at the sizes alone, has 89.0 %: that is within the interval" in equal
    worse = captions.headline(changed(baseline__majority__accuracy=0.95))
    assert "and the model should not be used" in worse
    new = captions.headline(changed(test_without_near_duplicates={"rows": 40, "accuracy": 0.85}))
    assert "On the 40 test rows without a near-duplicate in train, it is right in 85.0 %" in new
    few = captions.headline(changed(test_without_near_duplicates={"rows": 29, "accuracy": 0.85}))
    assert "near-duplicate" not in few


def test_per_class_names_the_best_the_worst_and_those_without_rows():
    text = captions.per_class(per_class_table(Clay=0.95, Gold=0.4, Iron=0.7, Jade=None))
    assert text.startswith("Of the 3 mediums with at least 30 rows, Clay is recognised best, 95.0 ")
    assert "% of its 100 rows, Gold worst, 40.0 % of 100 (interval 10 % to 90 %)" in text
    assert "1 of them has a recall of at least 90 %, 1 of less than half" in text
    assert "No rows to measure on: Jade." in text


def test_per_class_names_all_that_share_the_best_or_the_worst_recall():
    text = captions.per_class(per_class_table(Clay=0.7, Gold=0.4, Iron=0.7, Jade=0.4))
    assert "Clay and Iron are recognised best, 70.0 %, Gold and Jade worst, 40.0 %. 0 of" in text
    alike = captions.per_class(per_class_table(Clay=0.7, Gold=0.7))
    assert "all are recognised alike, 70.0 % of their rows" in alike
    assert captions.per_class(per_class_table(Clay=0.7)) == (
        "Only Clay has at least 30 rows: 70.0 % of its 100 are recognised."
    )


def test_per_class_does_not_round_a_recall_up_to_a_mark_that_it_misses():
    text = captions.per_class(per_class_table(Clay=0.897, Gold=0.498))
    assert "Clay is recognised best, 89.7 %" in text
    assert "Gold worst, 49.8 %" in text
    assert "0 of them have a recall of at least 90 %, 1 of less than half" in text


def test_nothing_is_claimed_of_mediums_with_few_rows():
    table = per_class_table(Clay=0.95, Gold=0.0, Iron=0.7)
    text = captions.per_class(table.assign(rows=[100, 29, 30]))
    assert "Of the 2 mediums with at least 30 rows" in text
    assert "Iron worst, 70.0 % of 30" in text
    assert "0 of less than half" in text
    assert text.endswith("Fewer than 30 rows, so that little can be said of them: Gold.")
    assert captions.per_class(table.assign(rows=3)).startswith("Fewer than 30 rows, so that")
    some = " ".join(captions.to_try(METRICS, curve(0.3), table.assign(rows=[100, 29, 30]), ALONE))
    assert "more rows of Iron and Clay, which are recognised least" in some
    for none in (table.assign(rows=3), table.assign(recall=1.0)):
        assert "recognised least" not in " ".join(captions.to_try(METRICS, curve(0.3), none, ALONE))


def test_the_largest_confusion_is_told_in_its_share_and_its_family():
    counts = {"Etching__Etching": 69, "Etching__Engraving": 31, "Engraving__Engraving": 90}
    counts |= {"Engraving__Etching": 5, "Engraving__Gold": 5, "Gold__Clay": 39, "Gold__Gold": 1}
    counts |= {"Clay__Clay": 10}
    text = captions.confusion(confusion_table(**counts))
    assert text.startswith("Gold is taken for Clay in 98 % of cases (39 of 40 rows)")
    assert "There are 80 errors in all." in text
    assert "the print techniques (Engraving and Etching) make up 45 % of all errors" in text
    assert "any one family 45 %" in text
    counts["Gold__Clay"] = 30
    text = captions.confusion(confusion_table(**counts))
    assert text.startswith("Etching is taken for Engraving in 31 % of cases (31 of 100 rows)")
    text = captions.confusion(confusion_table(Clay__Clay=3, Clay__Gold=6))
    assert text.startswith("Clay is taken for Gold in 6 of 9 rows, the largest single confusion")
    assert captions.confusion(confusion_table(Clay__Clay=3, Clay__Gold=0)) == (
        "No row is taken for another medium."
    )


def test_confusions_count_what_there_is():
    counts = {f"{name}__Gold": 40 - place for place, name in enumerate("ABCDEFGHIJK")}
    text = captions.confusion(confusion_table(**counts))
    assert text.endswith("The 10 largest make up 92 % of all 385 errors.")
    text = captions.confusion(confusion_table(A__B=1, B__B=5))
    assert text.endswith("the largest single confusion. There is 1 error in all.")
    text = captions.confusion(confusion_table(A__B=2, B__A=2, C__C=5))
    assert text.startswith("A is taken for B in 2 of 2 rows, one of the 2 largest confusions.")
    assert "family" not in text


def test_the_most_confused_pairs_are_sorted_by_rows():
    counts = {"Clay__Clay": 5, "Clay__Gold": 5, "Gold__Clay": 7, "Gold__Gold": 21, "Iron__Iron": 1}
    pairs = confused_pairs(confusion_table(**counts), most=1)
    assert pairs[["actual", "predicted", "count", "share"]].to_numpy().tolist() == [
        ["Gold", "Clay", 7, 0.25]
    ]


def bins(*lines):
    columns = ["confidence", "accuracy", "low", "high", "rows"]
    return pd.DataFrame(lines, columns=columns)


def reliability(table, error=0.05, high=0.06, low_accuracy=0.55, high_accuracy=0.65):
    metrics = {"accuracy": np.average(table["accuracy"], weights=table["rows"])}
    expected = {
        "accuracy": {"low": low_accuracy, "high": high_accuracy},
        "calibration_error": {"mean": 0.04, "high": high},
    }
    return captions.reliability(table, metrics | {"calibration_error": error}, expected)


def test_reliability_calls_a_fault_what_is_beyond_chance_and_nothing_else():
    table = bins((0.5, 0.5, 0.4, 0.6, 50), (0.9, 0.7, 0.65, 0.95, 50))
    text = reliability(table)
    assert "mean probability of 70.0 %, and 60.0 % of them are right" in text
    assert "between 55.0 % and 65.0 % in 95 of 100 cases: on the whole, the model is as" in text
    assert "the difference is 5.0 points (calibration error)" in text
    assert "4.0 points on average, by chance, and more than 6.0 points in 5 of 100" in text
    assert "5 of 100 cases: nothing speaks against them. Of the 2 bins" in text
    assert text.endswith("none lie beyond their ranges; by chance, one in 20 does.")
    assert "these are off by more" in reliability(table, error=0.07)
    assert "surer than it should be" in reliability(table, low_accuracy=0.61)
    assert "less sure than it could be" in reliability(table, high_accuracy=0.59)


def test_reliability_counts_the_bins_beyond_their_range_and_names_one_where_there_is_a_fault():
    table = bins((0.5, 0.38, 0.4, 0.6, 50), (0.9, 0.5, 0.65, 0.95, 50), (0.1, 0.9, 0, 0.2, 29))
    beyond = (
        "Of the 2 bins with at least 30 rows, 2 lie beyond their ranges; by chance, one in 20 does."
    )
    assert reliability(table).endswith(beyond)
    assert reliability(table, error=0.07).endswith(
        f"{beyond} The farthest is where the model says 90 %: 50 % are right, and chance explains "
        "65 % to 95 %."
    )


def test_museums_differ_only_where_their_intervals_do():
    table = pd.DataFrame(
        {"museum": ["A", "B"], "accuracy": [0.9, 0.5], "low": [0.8, 0.4], "high": [1.0, 0.6]}
    ).assign(rows=30)
    assert "highest at A, 90.0 %, and lowest at B, 50.0 %" in captions.museums(table)
    assert "do not overlap" in captions.museums(table)
    assert "Their intervals overlap" in captions.museums(table.assign(high=[1.0, 0.85]))
    assert "of one museum" in captions.museums(table.head(1))
    alike = captions.museums(table.assign(accuracy=0.9))
    assert alike == "The accuracy is 90.0 % at each museum."


def test_nothing_is_claimed_of_museums_with_few_rows():
    table = pd.DataFrame(
        {"museum": ["A", "B", "C"], "accuracy": [0.9, 0.5, 0.0], "low": 0.4, "high": 0.6}
    ).assign(rows=[30, 90, 29])
    text = captions.museums(table)
    assert "lowest at B" in text
    assert text.endswith("Fewer than 30 rows, too few to say anything: C.")
    assert captions.museums(table.assign(rows=[30, 2, 2])) == (
        "Fewer than 30 rows, too few to say anything: B and C."
    )


def test_importance_says_what_is_worth_nothing():
    table = pd.DataFrame(
        {
            "group": ["sizes", "embedding", "museum"],
            "accuracy_drop": [0.1, 0.6, 0.001],
            "low": [0.08, 0.5, -0.002],
            "high": [0.12, 0.7, 0.004],
        }
    )
    text = captions.importance(table)
    assert text.startswith("With the embedding of another row, the model would lose 60.0 points")
    assert "Without the sizes it would lose 10.0 points (8.0 to 12.0)." in text
    assert "Without the museum it would be as good within chance." in text
    least = captions.importance(table.tail(1).assign(accuracy_drop=-0.001))
    assert least == "With the museum of another row, the model would be as good within chance."


def test_mistakes_count_those_within_a_family():
    table = pd.DataFrame(
        {
            "medium": ["Etching", "Gold", "Jade"],
            "predicted": ["Engraving", "Clay", "Agate"],
            "probability": [0.99, 0.97, 0.95],
        }
    )
    assert "at least 95 % sure of each of these 3 wrong answers. 1 of them stays" in (
        captions.mistakes(table)
    )
    assert "no mistake" in captions.mistakes(table.head(0))
    assert "at least 99 % sure of this wrong answer. 1 of" in captions.mistakes(table.head(1))
    # Where no word of the labels is known, there are no families.
    assert "family" not in captions.mistakes(table.tail(1))
    assert "0 of them stay within a family" in captions.mistakes(table.tail(2))


def test_how_sure_the_model_is_at_least_is_rounded_down():
    table = pd.DataFrame({"medium": "A", "predicted": "B", "probability": [0.95, 0.899]})
    assert "at least 89 % sure" in captions.mistakes(table)
    assert whole_percent_below(0.29) == "29 %"  # 100 * 0.29 is a little less than 29
    assert whole_percent_below(float(np.float32(0.9))) == "90 %"


KINDS = [
    {"name": "embedding", "limit": None},
    {"name": "Year", "limit": "A year says when a {group} bought it."},
]
MODEL = model_of(kinds=KINDS)
FEW = model_of(kinds=KINDS, few_calibrating_rows=True, calibrating_rows=36, refit_on_val=True)
GROUPS = pd.DataFrame({"group": ["embedding", "Year"], "accuracy_drop": [0.6, 0.05]})


def test_limits_follow_from_the_metrics():
    table = per_class_table(Clay=0.9, Gold=0.5)
    text = " ".join(captions.limits(METRICS, table, GROUPS, MODEL))
    assert "about 2.0 points to each side" in text
    worth = "Without the Year the accuracy would be 5.0 points lower. A year says when a museum"
    assert worth in text
    assert "Without the embedding" not in text
    little = " ".join(captions.limits(METRICS, table, GROUPS.assign(accuracy_drop=0.01), MODEL))
    assert "Without the Year" not in little
    for absent in ("synthetic", "Near-duplicates", "fewer than", "too few"):
        assert absent not in text
    other = changed(
        data__source="synthetic", test_without_near_duplicates={"rows": 30, "accuracy": 0.87}
    )
    text = " ".join(captions.limits(other, table.assign(rows=[100, 8]), GROUPS.head(1), FEW))
    assert "The data is synthetic" in text
    assert "Near-duplicates add 3.0 points to the accuracy. Of artefacts that are real" in text
    assert "1 medium of 2 has fewer than 30 rows" in text
    assert "rest on 36 rows, too few to calibrate them well: how sure the model is may" in text
    assert "Near-duplicates in val, from which it has learned too, were not looked for." in text
    assert "Without the Year" not in text
    better = changed(test_without_near_duplicates={"rows": 30, "accuracy": 0.91})
    text = " ".join(captions.limits(better, table, GROUPS, MODEL))
    assert "Near-duplicates add" not in text
    assert "Of artefacts that are really new, expect 91.0 % to be named right." in text
    assert "Near-duplicates in val" not in text
    few = changed(test_without_near_duplicates={"rows": 29, "accuracy": 0.87})
    assert "Near-duplicates" not in " ".join(captions.limits(few, table, GROUPS, MODEL))


def test_what_to_try_follows_from_the_metrics():
    table = per_class_table(Clay=0.9, Gold=0.5, Iron=0.7, Tin=0.8)
    text = " ".join(captions.to_try(METRICS, curve(0.3), table, ALONE))
    assert "more rows of Gold, Iron and Tin" in text
    assert "among them in 97.0 % of cases, against 90.0 %" in text
    for absent in ("real data", "ahead of val", "calibration error"):
        assert absent not in text
    # Of three labels, three answers are always right.
    assert "three answers" not in " ".join(
        captions.to_try(METRICS, curve(0.3), table.head(3), ALONE)
    )
    other = changed(data__source="synthetic", test__calibration_error=0.05)
    assert "calibration" not in " ".join(
        captions.to_try(changed(test__calibration_error=0.029), curve(0.3), table, ALONE)
    )
    text = " ".join(captions.to_try(other, curve(0.3).assign(val_accuracy=0.8), table, ALONE))
    assert "Run it on real data" in text
    assert "Train is 19.0 points ahead of val: more rows, or a stronger penalty, may help." in text
    tuned = model_of("kernel_ridge", chosen={"kernel_ridge": {"penalty": 0.1}})
    text = " ".join(captions.to_try(other, curve(0.3).assign(val_accuracy=0.8), table, tuned))
    assert "ahead of val: more rows may help." in text
    assert "The calibration error is 5.0 points, and chance explains 3.0 points" in text
