"""What is told of one photograph that somebody gives, in sentences and numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from answers.answerer import Answerer
from answers.photographs import as_artefacts
from answers.rendering import between, share
from answers.thumbnail import Pictures
from answers.training import Training
from photographs.pictures.embedder import Embedder
from photographs.pictures.picture import Limits, PictureError
from stages.model_file.words import Words
from stages.reporting.captions import percent

# For a photograph that somebody gives: what cameras and browsers make. 100 million pixels take
# 400 MB.
GIVEN = Limits(100_000_000, ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"))


@dataclass(frozen=True)
class Replies:
    """A model, and what its answers are explained by. Several threads may use one."""

    training: Training
    embedder: Embedder
    words: Words  # what the page calls a label, and a group
    museum: str | None = None  # where the photographs come from, for a model that takes that
    pictures: Pictures | None = None  # of the training rows
    ignore_sizes: bool = False  # not to look at width and height, unless it is asked for

    @property
    def answerer(self) -> Answerer:
        """The model."""
        return self.training.answerer

    def to(self, content: bytes, ignore_sizes: bool | None = None) -> dict[str, Any]:
        """The reply to a photograph, by the content of its file.

        `mediums` are the five most probable, each with its `probability`, also in words (`share`);
        `sure` says whether the first of them is; `sentences` say how often such answers are right,
        and what was made of the sizes; `similar` are the most similar training artefacts.

        Raises PictureError when it cannot be read as a picture, or the model has no answer.
        """
        if ignore_sizes is None:
            ignore_sizes = self.ignore_sizes
        embedded = self.embedder.embed(content, GIVEN)
        artefact = as_artefacts([""], [embedded], self.embedder, self.museum)
        far = self.answerer.far(artefact)
        answers = self.answerer.answer(artefact, self.answerer.ignored(far, ignore_sizes))
        if np.isnan(answers.probabilities).any():
            raise PictureError("the model has no answer to it")
        best = answers.best(0)
        looked_at = bool(answers.with_sizes[0])
        size = f"{embedded.width:,} x {embedded.height:,} pixels"
        sure = bool(answers.sure[0])
        return {
            "mediums": [
                {"medium": medium, "probability": probability, "share": share(probability)}
                for medium, probability in best
            ],
            "sure": sure,
            "sentences": [
                *self._how_sure(best[0][1], sure, looked_at),
                self._sizes(size, looked_at, bool(far[0]), ignore_sizes),
            ],
            "sizes": looked_at,
            "synthetic": self.answerer.synthetic,
            "similar": [
                {
                    "image_file": near.image_file,
                    "medium": near.medium,
                    "museum": near.museum,
                    "cosine": round(near.cosine, 4),
                    "picture": self.pictures and self.pictures.of(near.image_file).uri,
                }
                for near in self.training.similar(artefact)
            ],
        }

    def _how_sure(self, probability: float, sure: bool, looked_at: bool) -> list[str]:
        """From when on the model is sure, and how often it was right with such a probability."""
        output = self.answerer.output(not looked_at)
        threshold = self.answerer.model.threshold(output)
        asked = percent(self.answerer.model.metadata["answers"][output]["sure"]["accuracy"], 0)
        if threshold is None:
            sentences = [
                "This model is never sure: nothing has shown that its answers, however probable, "
                f"are right in {asked} of all cases."
            ]
        else:
            verdict = "sure" if sure else "unsure"
            sentences = [
                f"The model is {verdict}: it is sure of an answer from {share(threshold)} on. Of "
                f"all such answers together, at least {asked} were right on val; of those near "
                f"{share(threshold)}, fewer. That holds for photographs like those of train alone."
            ]
        if (known := self.training.right_when(probability, output)) is not None:
            sentences.append(
                f"Answers about as sure as this one ({between(known.least, known.most)}) were "
                f"right in {known.right:,} of {known.rows:,} cases, on artefacts that the model "
                "was not fitted on."
            )
        return sentences

    def _sizes(self, size: str, looked_at: bool, far: bool, ignore: bool) -> str:
        """Whether width and height were looked at, and why not."""
        if not self.answerer.ranges:
            return "This model does not look at width and height."
        if ignore:
            return "The width and height were not looked at, as you asked."
        if not far:
            return f"The width and height, {size}, were looked at too."
        (low, high), (lowest, highest) = self.answerer.ranges.values()
        text = (
            f"{size} is far from what the model was trained on ({low:,.0f} to {high:,.0f} wide, "
            f"{lowest:,.0f} to {highest:,.0f} high)"
        )
        if looked_at:
            return f"{text}, and it cannot answer without the sizes: do not rely on this answer."
        return f"The width and height were not looked at: {text}."
