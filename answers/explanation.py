"""Why a model answers as it does: what each kind of features and each part of it contributed.

What is computed here is data alone; answers/telling.py puts it into words.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from answers.answerer import SHOWN, SIZES, Answerer
from answers.training import RightWhen, Similar, Training
from stages.common.errors import PipelineError, shorten
from stages.common.files import REMAKE
from stages.model_file.interface import PROBABILITIES, PROBABILITIES_WITHOUT_SIZES
from stages.model_file.scoring import is_sure
from stages.models.examples import log_softmax
from stages.tables.artefacts import ARTEFACTS, METADATA, Artefacts, read_artefacts
from stages.tables.parquet import matrix, read_columns, rounded_probabilities
from stages.tables.split import subsets_of_artefacts
from stages.tables.val_probabilities import other_val_rows, read_val_probabilities

# Training rows whose values take the place of an artefact's own; another seed draws others.
SAMPLE_ROWS = 128
SAMPLE_SEED = 0
READING = "reading"  # what the progress bar says
NAMES_SHOWN = 3  # of rows, where one is asked for that there is not
SMALLEST = float(np.finfo(np.float32).tiny)  # a probability of 0 has no logarithm


class Choice(NamedTuple):
    """A label and its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class Asked:
    """The artefact that an answer is about."""

    artefact: Artefacts  # one row: what the model takes, image_file, museum, width and height
    subset: str | None = None  # None for a photograph that is no row of the run
    medium: str | None = None  # what it is, where that is known
    # What the run says of it, (k,) float32, by the names of the model's outputs.
    of_run: Mapping[str, np.ndarray] | None = None


class Variant(NamedTuple):
    """What the model says when something about the artefact, or in the model, is otherwise."""

    name: str  # of what is otherwise: a kind of features, a member
    first: Choice  # the most probable label then
    answer: float  # the probability of the answer then
    other: float  # of the label that the answer is compared with
    log_odds: float  # of the answer against that label, in nats


class Share(NamedTuple):
    """What a member of a blend contributed."""

    name: str
    nats: float  # to the log-odds of the answer against the label that it is compared with
    favourite: str | None  # its own most probable label; None where it has no say


@dataclass(frozen=True)
class Mistake:
    """What would have been needed for the right label."""

    rank: int  # of the right label among the answers: 2 is the second
    nearest: Similar | None  # the most similar training row of the right label
    nearest_answered: Similar | None  # and of the answered one
    training_rows: int  # of the right label
    training_rows_answered: int
    rows: int  # of the right label in val and test
    taken: int  # how many of them are taken for the answered one


@dataclass(frozen=True)
class Explanation:
    """Why the model answers as it does about one artefact. Probabilities have six decimals."""

    image_file: str
    museum: str
    subset: str | None
    medium: str | None
    width: float  # pixels
    height: float
    synthetic: bool
    model: str  # its name in params.yaml
    refitted: bool  # whether it was fitted on val too
    best: list[Choice]  # the most probable labels
    sure: bool
    threshold: float | None  # from which probability on it is sure
    sure_accuracy: float  # of the answers of val that are sure
    with_sizes: bool
    far: bool  # the sizes are far outside those of train
    ranges: Mapping[str, tuple[float, float]]  # the sizes of train, in pixels
    right_when: RightWhen | None
    other: Choice  # what the answer is compared with: the right label, or else the second answer
    # From here on, what the model's file says. It says something else than `best` where these are
    # cross-fitted.
    own: Choice  # its most probable label
    own_answer: float  # the probability of the answer
    log_odds: float  # of the answer against the other, in nats
    sample: int  # training rows that the groups are means over
    groups: list[Variant]  # for each kind of features, with the values of the sample
    without_sizes: Variant | None  # what it says without, where it looked at them and can do so
    members: list[Share]  # their sum is `log_odds`; none where the model is no blend
    without_members: list[Variant]  # what the other members say, for each
    similar: list[Similar]
    mistake: Mistake | None

    @property
    def answer(self) -> Choice:
        """The most probable label."""
        return self.best[0]


def read_asked(name: str, training: Training) -> tuple[Asked | None, Artefacts]:
    """A row of the run in the current folder by its image file, and the sample of training rows.

    None where there is no such row.

    Raises PipelineError when it has a label that the model does not know.
    """
    model = training.answerer.model
    subset_of = subsets_of_artefacts()
    drawn = np.random.default_rng(SAMPLE_SEED).permutation(training.image_files)
    sampled = [other for other in drawn[: SAMPLE_ROWS + 1] if other != name][:SAMPLE_ROWS]
    asked = {*sampled, *({name} & subset_of.keys())}
    wanted = {other: READING if other in asked else "" for other in subset_of}
    columns = ["medium", "museum", *SIZES, *model.inputs]
    rows = Artefacts.join(list(read_artefacts(READING, wanted, columns, "explain")))
    places = {other: place for place, other in enumerate(rows["image_file"])}
    if lacking := set(sampled) - places.keys():
        raise PipelineError(f"{ARTEFACTS} has no row {shorten(min(lacking))} of train: {REMAKE}")
    sample = rows.take(np.array([places[other] for other in sampled]))
    if name not in places:
        return None, sample
    artefact, subset = rows.take(np.array([places[name]])), subset_of[name]
    medium = str(artefact["medium"][0])
    if medium not in model.labels:
        raise PipelineError(
            f"{training.answerer.path} does not know the label {shorten(medium)} of "
            f"{shorten(name)}: run `dvc repro`"
        )
    return Asked(artefact, subset, medium, _of_run(training, name, subset)), sample


def no_such_row(name: str) -> PipelineError:
    """That an image file is neither that of a row nor a photograph; it names similar ones."""
    table = read_columns(ARTEFACTS, {"image_file": METADATA["image_file"]}, "image_file")
    names = table["image_file"].to_pylist()
    near = difflib.get_close_matches(name, names, NAMES_SHOWN, cutoff=0)
    return PipelineError(
        f"{shorten(name, 120)} is neither the image file of a row of data/artefacts.parquet nor "
        f"the path of a photograph; the most similar names of rows are "
        f"{', '.join(map(shorten, near))}"
    )


def _of_run(training: Training, name: str, subset: str) -> dict[str, np.ndarray]:
    """What the run says of a row of val or test; nothing of train."""
    row = training.predictions.filter(pc.field("image_file") == name)
    if not len(row):
        return {}
    found = {PROBABILITIES: matrix(row["probabilities"])[0]}
    if subset == "val":
        model = training.answerer.model
        names, probabilities = read_val_probabilities(model.labels, model.outputs)
        if name not in names:
            raise other_val_rows()
        for output, values in probabilities.items():
            found.setdefault(output, rounded_probabilities(values[names.index(name)]))
    return found


def explain(
    training: Training, asked: Asked, sample: Artefacts, ignore_sizes: bool = False
) -> Explanation:
    """Why the model answers as it does; `sample` are training rows, m of them.

    A photograph whose sizes are far outside those of train is answered without them, where the
    model can.

    Raises PipelineError when the sizes are to be ignored and the model cannot, and when it has no
    answer.
    """
    answerer, artefact = training.answerer, asked.artefact
    model, image_file = answerer.model, str(artefact["image_file"][0])
    if ignore_sizes:
        answerer.check_ignore_sizes()
    far = answerer.far(artefact)
    # The run has looked at the sizes of its own rows whatever they were.
    ignored = answerer.ignored(far & (asked.subset is None), ignore_sizes)
    output = answerer.output(bool(ignored[0]))
    with_sizes = bool(answerer.ranges) and output == PROBABILITIES
    own = model.predict_proba(artefact, output)[0].astype(np.float64)
    if np.isnan(own).any():
        raise PipelineError(f"{answerer.path} has no answer for {shorten(image_file)}")
    shown = (asked.of_run or {}).get(output, rounded_probabilities(own)).astype(np.float64).round(6)
    order = np.argsort(-shown, kind="stable")
    first, wrong = order[0], asked.medium not in (None, model.labels[order[0]])
    other = model.labels.index(str(asked.medium)) if wrong else order[1]

    def variant(name: str, probabilities: np.ndarray) -> Variant:
        return _variant(name, probabilities.astype(np.float64), model.labels, first, other)

    members = {name: part[0] for name, part in model.members(artefact, output).items()}
    shares = []
    for name, part in members.items():
        favourite = model.labels[part.argmax()] if part.any() else None
        shares.append(Share(name, float(part[first] - part[other]), favourite))
    itself = variant("", own[None])
    without_sizes = None
    if with_sizes and PROBABILITIES_WITHOUT_SIZES in model.outputs:
        said = model.predict_proba(artefact, PROBABILITIES_WITHOUT_SIZES)
        without_sizes = variant(PROBABILITIES_WITHOUT_SIZES, said)
    answered = model.metadata["answers"][output]["sure"]
    return Explanation(
        image_file=image_file,
        museum=str(artefact["museum"][0]),
        subset=asked.subset,
        medium=asked.medium,
        width=float(artefact["width"][0]),
        height=float(artefact["height"][0]),
        synthetic=answerer.synthetic,
        model=model.metadata["model"],
        refitted=model.metadata["parameters"]["refit_on_val"],
        best=[Choice(model.labels[place], float(shown[place])) for place in order[:SHOWN]],
        sure=bool(is_sure(shown[None], answered["threshold"])[0]),
        threshold=answered["threshold"],
        sure_accuracy=answered["accuracy"],
        with_sizes=with_sizes,
        far=bool(far[0]),
        ranges=answerer.ranges,
        right_when=training.right_when(float(shown[first]), output, image_file),
        other=Choice(model.labels[other], float(shown[other])),
        own=itself.first,
        own_answer=itself.answer,
        log_odds=sum(share.nats for share in shares) if shares else itself.log_odds,
        sample=len(sample),
        groups=[
            variant(name, model.predict_proba(rows, output))
            for name, rows in _with_sample(answerer, artefact, sample, output).items()
        ],
        without_sizes=without_sizes,
        members=shares,
        without_members=[
            variant(
                name, np.exp(log_softmax(sum(p for n, p in members.items() if n != name)[None]))
            )
            for name in members
            if len(members) > 1
        ],
        similar=training.similar(artefact),
        mistake=_mistake(training, asked, order, output) if wrong else None,
    )


def _with_sample(
    answerer: Answerer, artefact: Artefacts, sample: Artefacts, output: str
) -> dict[str, Artefacts]:
    """For each kind of features that an output looks at, the artefact m times with its values of
    the sample."""
    repeated = artefact.take(np.zeros(len(sample), dtype=int))
    found = {}
    for kind in answerer.model.metadata["kinds"]:
        columns = [value["name"] for value in kind["inputs"]]
        seen = output == PROBABILITIES or not set(columns) <= set(SIZES)
        if columns and seen:
            found[kind["name"]] = repeated.with_columns({name: sample[name] for name in columns})
    return found


def _variant(
    name: str, probabilities: np.ndarray, labels: list[str], answer: int, other: int
) -> Variant:
    """The mean of n probabilities (n, k) float64, and of their log-odds."""
    mean = probabilities.mean(axis=0)
    logarithms = np.log(np.maximum(probabilities, SMALLEST))
    log_odds = (logarithms[:, answer] - logarithms[:, other]).mean()
    best = mean.argmax()
    chosen = (round(float(mean[place]), 6) for place in (best, answer, other))
    first, of_answer, of_other = chosen
    return Variant(name, Choice(labels[best], first), of_answer, of_other, float(log_odds))


def _mistake(training: Training, asked: Asked, order: np.ndarray, output: str) -> Mistake:
    """What is known of the right label and of the answered one; `order` (k,) are the answers."""
    labels, right = training.answerer.model.labels, str(asked.medium)
    answered = labels[order[0]]
    nearest, nearest_answered = (
        next(iter(training.similar(asked.artefact, 1, label)), None) for label in (right, answered)
    )
    of_label = training.predictions.filter(pc.field("medium") == right)
    predicted = of_label[f"predicted{output.removeprefix(PROBABILITIES)}"].to_pylist()
    return Mistake(
        rank=order.tolist().index(labels.index(right)) + 1,
        nearest=nearest,
        nearest_answered=nearest_answered,
        training_rows=int((training.mediums == right).sum()),
        training_rows_answered=int((training.mediums == answered).sum()),
        rows=len(predicted),
        taken=predicted.count(answered),
    )
