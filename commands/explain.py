"""Tell why the model answers as it does about one artefact.

    python -m commands.explain IMAGE_FILE [--html FILE]

IMAGE_FILE is the image file of a row of the run in this folder, or the path of a photograph.
"""

import argparse
from pathlib import Path

from answers.answerer import Answerer
from answers.explanation import Asked, Explanation, explain, no_such_row, read_asked
from answers.photographs import about_museum, as_artefacts, check_columns, embedder_for
from answers.rendering import share
from answers.telling import Telling, as_page, as_text
from answers.thumbnail import Picture, Pictures
from answers.training import Training
from photographs.networks.description import NETWORK
from photographs.pictures.picture import PictureError
from photographs.pictures.places import located, open_place
from stages.common.errors import PipelineError, shorten
from stages.common.files import write_text
from stages.common.stage import log, run
from stages.model_file.interface import MODEL
from stages.model_file.words import Words

STAGE = "explain"


def main() -> str:
    arguments = parse_arguments()
    html: Path | None = arguments.html
    if html is not None and html.suffix != ".html":
        raise PipelineError(f"{html}: the page is written to a file whose name ends in .html")
    answerer = Answerer(arguments.model)
    if arguments.ignore_sizes:
        answerer.check_ignore_sizes()
    training = Training.read(answerer)
    photographs = Pictures(open_place(arguments.photographs)) if arguments.photographs else None
    name: str = arguments.image_file
    asked, sample = read_asked(name, training)
    content = None
    if asked is None:
        content = read_photograph(name)
        asked = embedded(name, content, answerer, arguments.network, arguments.museum)
    elif arguments.museum is not None:
        raise PipelineError(
            f"{shorten(name)} is a row of the run, which has its museum: --museum is for "
            "photographs"
        )
    found = explain(training, asked, sample, arguments.ignore_sizes)
    telling = Telling(Words.read(), found)
    print(as_text(telling), end="\n\n", flush=True)
    said = f"{found.answer.label} ({share(found.answer.probability)})"
    if html is None:
        return said
    write_text(html, as_page(telling, pictures_of(found, photographs, content)))
    return f"{said}, {html} written"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m commands.{STAGE}",
        description="Tell why the model answers as it does about one artefact.",
    )
    parser.add_argument(
        "image_file",
        metavar="IMAGE_FILE",
        help="the image file of a row of the run in this folder, or the path of a photograph",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as a page, too")
    parser.add_argument(
        "--photographs",
        type=located,
        metavar="FOLDER_OR_ZIP",
        help="where the photographs of the run are, so that the page shows them",
    )
    parser.add_argument(
        "--ignore-sizes",
        action="store_true",
        help="answer without the photograph's width and height",
    )
    parser.add_argument(
        "--museum", metavar="NAME", help="of a photograph, for a model that takes the museum"
    )
    parser.add_argument(
        "--model", type=Path, default=MODEL, help="the model's file (default: %(default)s)"
    )
    parser.add_argument(
        "--network",
        type=Path,
        default=NETWORK,
        help="for a photograph: the ONNX file of the network (default: %(default)s)",
    )
    return parser.parse_args()


def read_photograph(name: str) -> bytes:
    """The content of a photograph's file.

    Raises PipelineError when there is none.
    """
    path = Path(name)
    if not path.is_file():
        raise no_such_row(name)
    return path.read_bytes()


def embedded(
    name: str, content: bytes, answerer: Answerer, network: Path, museum: str | None
) -> Asked:
    """A photograph as what the model takes.

    Raises PipelineError when it cannot be read as a picture, and as `embedder_for` and
    `check_columns` do.
    """
    check_columns(answerer, museum)
    if note := about_museum(answerer, museum):
        log(STAGE, note)
    embedder = embedder_for(answerer, network, STAGE)
    try:
        photograph = embedder.embed(content)
    except PictureError as error:
        raise PipelineError(f"{shorten(name, 120)} cannot be embedded: {error}") from None
    return Asked(as_artefacts([name], [photograph], embedder, museum))


def pictures_of(
    found: Explanation, photographs: Pictures | None, content: bytes | None
) -> dict[str, Picture]:
    """Thumbnails by image file: of the photograph, whose file has this content where that is known,
    and of the similar training rows."""
    pictures = {}
    if photographs is not None:
        names = [found.image_file, *(near.image_file for near in found.similar)]
        pictures = {name: photographs.of(name) for name in names}
    if content is not None:
        pictures[found.image_file] = Picture.of(content)
    return pictures


if __name__ == "__main__":
    run(STAGE, main)
