"""From photographs to what a model takes: by the network that made the embeddings of its train."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import get_args

import numpy as np

from answers.answerer import ROWS, SIZES, Answerer
from photographs.embed import usable_cores
from photographs.networks.description import EXIF, LAST, Resize
from photographs.pictures.cache import Cache, Embedded
from photographs.pictures.embedder import Embedder
from photographs.pictures.places import Place
from photographs.pictures.table import Result, embed_each, files_of, in_groups, type_of_numbers
from stages.common.errors import PipelineError, shorten
from stages.common.stage import log
from stages.features.kinds.category import MUSEUM
from stages.tables.artefacts import EMBEDDING, Artefacts, differences, identity_in_words


def embedder_for(
    answerer: Answerer, network: Path, title: str, exif_rotation: bool | None = None
) -> Embedder:
    """What turns photographs into embeddings as those were made that the model was trained on.

    `exif_rotation` turns photographs as EXIF says, whatever was done for train; None does what was
    done there. Where nobody knows what made the embeddings of train, a line that begins with
    `title` says so.

    Raises PipelineError for another network, and for a model that takes no embeddings.
    """
    length = answerer.model.embedding_length
    if length is None:
        raise PipelineError(
            f"{answerer.path} was trained without embeddings, so that it cannot look at "
            "photographs: give it a table with their sizes"
        )
    identity = answerer.model.metadata["embedding"]
    if identity is None:
        log(
            title,
            f"{answerer.path} does not say what made the embeddings that it was trained on: the "
            f"answers mean something only if {network} did",
        )
        identity = {}
    resize = identity.get("resize")
    turned = identity.get("orientation") == EXIF
    embedder = Embedder(
        network,
        identity.get("layers", LAST),
        resize if resize in get_args(Resize) else None,
        turned if exif_rotation is None else exif_rotation,
    )
    asked = {name: text for name, text in identity.items() if name != "orientation"}
    if found := differences(asked, embedder.identity):
        wanted, given = (
            identity_in_words({name: said[name] for name in found})
            for said in (asked, embedder.identity)
        )
        raise PipelineError(
            f"{network} makes other embeddings ({given}) than {answerer.path} was trained on "
            f"({wanted}): name the right network with --network"
        )
    if len(embedder.answer) != length:
        raise PipelineError(
            f"{network} gives {len(embedder.answer):,} numbers, and {answerer.path} takes "
            f"{length:,}: name the right network with --network"
        )
    return embedder


def check_columns(answerer: Answerer, museum: str | None) -> None:
    """Raises PipelineError when the model takes columns that photographs do not tell."""
    for name in answerer.further:
        if name != MUSEUM:
            raise PipelineError(
                f"{answerer.path} takes the column `{name}`, which no photograph tells: make a "
                "table with it by `python -m commands.embed --metadata`, and give that"
            )
    if MUSEUM in answerer.further and museum is None:
        raise PipelineError(
            f"{answerer.path} takes the museum: say it with --museum, one of "
            f'{", ".join(known_museums(answerer))}, or "" for another'
        )


def about_museum(answerer: Answerer, museum: str | None) -> str | None:
    """What to say of a museum that was given and tells the model nothing; None of any other."""
    if museum is None:
        return None
    if MUSEUM not in answerer.further:
        return f"{answerer.path} does not look at the museum: --museum changes nothing"
    if museum in (known := known_museums(answerer)):
        return None
    return (
        f"no photograph of train is from the museum {shorten(museum) or 'without a name'}, so that "
        f"it tells the model nothing; it knows {', '.join(known)}"
    )


def known_museums(answerer: Answerer) -> list[str]:
    """The museums of train that the model knows."""
    begin = f"{MUSEUM}="
    names = answerer.model.metadata["feature_names"]
    return [name.removeprefix(begin) for name in names if name.startswith(begin)]


def as_artefacts(
    image_files: Sequence[str],
    embedded: Sequence[Embedded],
    embedder: Embedder,
    museum: str | None = None,
) -> Artefacts:
    """Photographs as rows of the artefacts table, with the sizes of their pictures."""
    # As a table keeps them, so that the answer is the same by way of a table.
    kept = type_of_numbers(embedder).to_pandas_dtype()
    numbers = np.stack([photograph.embedding for photograph in embedded]).astype(kept)
    artefacts = Artefacts(
        {
            "image_file": np.array(image_files, dtype=object),
            EMBEDDING: numbers.astype(np.float32),
            SIZES[0]: np.array([photograph.width for photograph in embedded], dtype=np.float64),
            SIZES[1]: np.array([photograph.height for photograph in embedded], dtype=np.float64),
        }
    )
    return fill_museum(artefacts, museum or "")


def fill_museum(artefacts: Artefacts, museum: str | None) -> Artefacts:
    """The artefacts with one museum for all of them; None leaves them as they are."""
    if museum is None:
        return artefacts
    return artefacts.with_columns({MUSEUM: np.full(len(artefacts), museum, dtype=object)})


class Photographs:
    """Photographs for a model."""

    labelled = False
    with_sizes = True

    def __init__(
        self,
        place: Place,
        embedder: Embedder,
        cache: Cache | None = None,
        museum: str | None = None,
        title: str = "predict",
    ) -> None:
        """`title` stands before a bar."""
        self._place = place
        self._embedder = embedder
        self._cache = cache
        self._museum = museum
        self._title = title
        self._result = Result()

    def rows(self) -> Iterator[Artefacts]:
        """What can be embedded, by all cores, in the order of the names, `ROWS` at a time."""
        files = files_of(self._place, self._result)
        # Closed at once where something fails, so that no thread works on.
        with closing(
            embed_each(
                self._place,
                files,
                self._embedder,
                self._cache,
                self._result,
                usable_cores(),
                self._title,
            )
        ) as done:
            for group in in_groups(done, ROWS):
                names, embedded = zip(*group, strict=True)
                yield as_artefacts(names, embedded, self._embedder, self._museum)

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """After the last row: the name of each file that cannot be embedded, and why."""
        return sorted(self._result.left_out)
