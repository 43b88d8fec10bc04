"""Show a page to try photographs on.

    python -m commands.serve

Open the address that it prints. Photographs are turned as their EXIF orientation says: phones store
them sideways and say so there. They are kept nowhere, and nothing leaves this machine.
"""

import argparse
import webbrowser
from pathlib import Path

from answers.answerer import SYNTHETIC, Answerer
from answers.photographs import about_museum, check_columns, embedder_for
from answers.reply import Replies
from answers.server import Site, is_local, listen, make_server
from answers.thumbnail import Pictures
from answers.training import Training
from photographs.networks.description import NETWORK
from photographs.pictures.places import located, open_place
from stages.common.stage import log, run
from stages.model_file.interface import MODEL
from stages.model_file.words import Words

STAGE = "serve"
EVERYWHERE = ("0.0.0.0", "::")


def main() -> str:
    arguments = parse_arguments()
    answerer = Answerer(arguments.model)
    if arguments.ignore_sizes:
        answerer.check_ignore_sizes()
    check_columns(answerer, arguments.museum)
    if note := about_museum(answerer, arguments.museum):
        log(STAGE, note)
    embedder = embedder_for(answerer, arguments.network, STAGE, exif_rotation=True)
    pictures = Pictures(open_place(arguments.photographs)) if arguments.photographs else None
    training = Training.read(answerer)
    replies = Replies(
        training, embedder, Words.read(), arguments.museum, pictures, arguments.ignore_sizes
    )
    with listen(arguments.host, arguments.port) as listening:
        local = is_local(listening)
        if answerer.synthetic:
            log(STAGE, SYNTHETIC)
        if not local:
            log(
                STAGE,
                "warning: everyone in the network can use the page, and what they send is not "
                f"encrypted; their way to it is this machine's address, port "
                f"{listening.getsockname()[1]}",
            )
        address = address_of(arguments.host, listening.getsockname()[1])
        log(STAGE, f"{address} shows the page, until Ctrl-C")
        if arguments.open:
            webbrowser.open(address)
        make_server(Site(replies, arguments.host, local), listening).run()
    return "stopped"


def address_of(host: str, port: int) -> str:
    """What to type in a browser."""
    name = "localhost" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m commands.{STAGE}",
        description="Show a page to try photographs on.",
    )
    parser.add_argument(
        "--photographs",
        type=located,
        metavar="FOLDER_OR_ZIP",
        help="where the photographs of the run are, so that the page shows those that are similar",
    )
    parser.add_argument(
        "--ignore-sizes",
        action="store_true",
        help="do not look at width and height, unless the page is told to",
    )
    parser.add_argument(
        "--museum", help="where the photographs come from, for a model that takes that"
    )
    parser.add_argument(
        "--model", type=Path, default=MODEL, help="the ONNX file (default: %(default)s)"
    )
    parser.add_argument(
        "--network",
        type=Path,
        default=NETWORK,
        help="the ONNX file of the network (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on; 0.0.0.0 lets everyone in the network use the page "
        "(default: %(default)s, this machine alone)",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser.parse_args()


if __name__ == "__main__":
    run(STAGE, main)
