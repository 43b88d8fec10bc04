"""Photographs in a store such as S3: the same table as from a folder, and a sentence if not."""

import csv
import pickle
import threading
import time
from importlib.util import find_spec

import pytest
from conftest import BUCKET
from test_embed import draw_folder, left_out_path, tiny_network  # noqa: F401
from test_photographs import contents, jpeg

from photographs.embed import embed
from photographs.pictures import places
from photographs.pictures.embedder import Embedder
from photographs.pictures.places import AWAITED, Folder, Store, located, open_place
from photographs.pictures.table import Result, Source, embed_each, embed_some
from stages.common.errors import PipelineError

URL = "memory://bucket/photographs"


@pytest.fixture
def folder(tmp_path):
    """Photographs, and what is none."""
    draw_folder(tmp_path / "photographs", 9)
    (tmp_path / "photographs/.hidden").write_bytes(b"no picture")
    (tmp_path / "photographs/Clay/empty.jpg").write_bytes(b"")
    return tmp_path / "photographs"


def put(folder, files, root):
    """Copy a folder to a store."""
    for path in folder.rglob("*"):
        if path.is_file():
            files.pipe(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())


@pytest.fixture
def store(folder, memory_store):
    """The filesystem of a store that has the same as the folder."""
    put(folder, memory_store, "/bucket/photographs")
    return memory_store


@pytest.fixture
def tables(tmp_path, tiny_network):  # noqa: F811
    """A function that embeds a place and gives the bytes of the table and of what is left out."""

    def call(photographs, metadata=None):
        output = tmp_path / f"made-{len(list(tmp_path.iterdir()))}/t.parquet"
        embed(photographs, output, Embedder(tiny_network), metadata)
        return output.read_bytes(), left_out_path(output).read_bytes()

    return call


def test_a_store_has_the_files_that_a_folder_has(folder, store):
    for url in (URL, f"{URL}/"):
        assert contents(open_place(located(url))) == contents(Folder(folder))
        assert open_place(located(url)).names() == Folder(folder).names()


def test_a_table_from_a_store_has_the_same_bytes_as_one_from_a_folder(folder, store, tables):
    found = tables(located(URL))
    assert found == tables(folder)
    assert b".hidden" in found[1]


CATALOGUE = b"Image file,Medium\n04.jpg,Clay\nnone.jpg,Gold\n"


def test_a_catalogue_may_lie_in_a_store_and_is_no_photograph_there(folder, store, tables):
    (folder / "c.csv").write_bytes(CATALOGUE)
    store.pipe("/bucket/photographs/c.csv", CATALOGUE)
    found = tables(f"{URL}/", f"{URL}/c.csv")
    assert found == tables(folder, folder / "c.csv")
    assert b"c.csv" not in found[1]
    assert found[0] == tables(folder, f"{URL}/c.csv")[0]


def test_a_catalogue_of_a_store_that_cannot_be_used_is_told_by_its_url(store, tables):
    store.pipe("/bucket/c.csv", b"a,b\n1,2\n")
    for url, said in {
        "memory://bucket/c.csv": r"^memory://bucket/c\.csv has no column `Image file`; it has a, b",
        "memory://bucket/gone.csv": r"^memory://bucket/gone\.csv: there is no such file",
        "ftp://host/c.csv": "^ftp:// is none of the stores",
    }.items():
        with pytest.raises(PipelineError, match=said):
            tables(URL, url)


def test_what_is_no_folder_of_a_store_is_told(store):
    store.mkdir("/bucket/empty")
    for url, said in {
        "memory://bucket/gone": "gone: there is no such file or folder, or it may not be listed",
        f"{URL}/Clay/01.jpg": "01.jpg: it is a file, not a folder: download it, and give its path",
        "ftp://host/photographs": "ftp:// is none of the stores that are read (s3, gs, abfs, mem",
        "s3://bucket": "a URL should be s3://BUCKET/PATH",
        "s3://me:s3cret@bucket/photographs": "a URL has a user or a password in it",
    }.items():
        with pytest.raises(PipelineError) as error:
            open_place(located(url))
        assert said in str(error.value)
        assert "s3cret" not in str(error.value)


def test_an_empty_folder_of_a_store_is_told(memory_store, tables):
    memory_store.mkdir("/bucket/photographs")
    with pytest.raises(PipelineError, match="of photographs is empty"):
        tables(URL)


def test_photographs_of_a_store_without_its_package_name_it():
    if find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    with pytest.raises(PipelineError, match=r"^gs://b/p: gs:// needs a package .* install gcsfs`$"):
        open_place("gs://b/p")


def failing(monkeypatch, store, error, where="open", name="04.jpg"):
    """Let the store fail for paths that end in a name."""
    real = getattr(type(store), where)

    def fail(self, path, *more, **options):
        if path.endswith(name):
            raise error
        return real(self, path, *more, **options)

    monkeypatch.setattr(type(store), where, fail)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError("s3cret"), "it may not be read with these credentials: ask for the"),
        (FileNotFoundError("s3cret"), "there is no such file"),
        (MemoryError(), "it takes more memory than there is"),
    ],
)
def test_a_photograph_that_a_store_does_not_give_is_left_out(
    store, tables, monkeypatch, error, reason
):
    failing(monkeypatch, store, error)
    _, left_out = tables(URL)
    listed = dict(csv.reader(left_out.decode().splitlines()))
    assert listed["Clay/04.jpg"].startswith(reason)
    assert len(listed) == 4  # a header, and what is no picture
    assert b"s3cret" not in left_out


def test_a_photograph_of_a_store_that_is_too_large_is_not_read(folder, store, monkeypatch):
    monkeypatch.setattr(places, "MOST_BYTES", 5)
    assert contents(Store(URL)) == contents(Folder(folder))
    assert contents(Store(URL))["Clay/04.jpg"] == places.TOO_LARGE


def test_a_store_that_fails_in_the_middle_leaves_out_nothing(store, monkeypatch, tables):
    failing(monkeypatch, store, RuntimeError("s3cret"))
    with pytest.raises(PipelineError, match=r"04\.jpg: the store does not give it \(RuntimeErr"):
        tables(URL)


def test_rights_that_expire_in_the_middle_leave_out_nothing(store, monkeypatch):
    place = Store(URL)
    for where in ("open", "info"):
        failing(monkeypatch, store, PermissionError("s3cret"), where, "")
    with pytest.raises(PipelineError, match="/photographs: it may not be read with these cred"):
        place.read("Clay/04.jpg")


class Busy:
    """How many do something at a time, at most."""

    def __init__(self):
        self.most = self.now = 0
        self.lock = threading.Lock()

    def __call__(self, seconds):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(seconds)
        with self.lock:
            self.now -= 1


def test_photographs_are_waited_for_while_others_are_embedded(
    store,
    tiny_network,  # noqa: F811
    monkeypatch,
):
    reading, embedding = Busy(), Busy()
    read, run = Store.read, Embedder.embed
    monkeypatch.setattr(Store, "read", lambda *given: reading(0.05) or read(*given))
    monkeypatch.setattr(Embedder, "embed", lambda *given: embedding(0.001) or run(*given))
    files = {f"{number}.jpg": f"{number}.jpg" for number in range(30)}
    for number, name in enumerate(files):
        store.pipe(f"/bucket/photographs/{name}", jpeg(number))
    found = embed_each(Store(URL), files, Embedder(tiny_network), None, Result(), 2)
    assert [name for name, _ in found] == list(files)
    assert 2 < reading.most <= 2 + AWAITED
    assert embedding.most <= 2
    # As on a worker of a cluster.
    reading.most = embedding.most = 0
    assert len(embed_some(Source(Store(URL), Embedder(tiny_network)), list(files))) == 30
    assert 1 < reading.most <= 1 + AWAITED
    assert embedding.most == 1


@pytest.mark.slow
def test_a_table_comes_from_photographs_in_s3(folder, bucket, s3, tables, capfd, monkeypatch):
    url, root = f"s3://{BUCKET}/photographs", f"{BUCKET}/photographs"
    put(folder, s3, root)
    s3.touch(f"{root}/made for a folder/")
    s3.pipe(f"{BUCKET}/photographs of another/a.jpg", b"")
    s3.pipe(f"{BUCKET}/other.csv", b"")
    assert tables(url) == tables(folder)
    with pytest.raises(PipelineError, match="gone: there is no such file or folder"):
        open_place(f"s3://{BUCKET}/gone")
    with pytest.raises(PipelineError, match="none: there is no such file or folder"):
        open_place("s3://no-such-bucket/none")
    with pytest.raises(PipelineError, match=r"other\.csv: it is a file"):
        open_place(f"s3://{BUCKET}/other.csv")
    # What travels to a worker, and what is said, hold no keys.
    pickled, said = pickle.dumps(open_place(url)), capfd.readouterr()
    for key in bucket[1:]:
        assert key.encode() not in pickled
        assert key not in said.out + said.err
    place = open_place(url)
    assert "Clay/04.jpg" in place.names()
    s3.rm(root, recursive=True)
    with pytest.raises(PipelineError, match="/photographs: there is no such file or folder"):
        place.read("Clay/04.jpg")
    s3.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "wrong")
    with pytest.raises(PipelineError, match="it may not be read with these credentials"):
        open_place(url)
    with pytest.raises(PipelineError, match=r"^the worker on .*: s3://.*: it may not be read"):
        pickle.loads(pickled)
