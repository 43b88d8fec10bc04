"""Features are fitted on training rows only, and are what their names say."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
from conftest import tiny_rows, write_csv_table
from scipy.stats import yeojohnson
from sklearn.decomposition import PCA
from sklearn.preprocessing import PowerTransformer, StandardScaler
from threadpoolctl import threadpool_limits

from stages import featurize, parse_embeddings_to_parquet, split
from stages.common.errors import PipelineError
from stages.features.kinds.embedding import (
    LONGEST_EXACT,
    apart_from_logarithms,
    fit_exponents,
    principal_components,
    yeo_johnson,
)
from stages.features.kinds.sizes import logarithms
from stages.features.moments import Moments, moments
from stages.features.transformer import TRANSFORMER, Transformer
from stages.featurize import Params, check_column, check_names, check_params
from stages.model_file.graph import Graph
from stages.tables.artefacts import Artefacts, artefacts_schema, read_artefacts
from stages.tables.features import features_path, read_features
from stages.tables.split import subsets_of_artefacts


def artefacts(rows=60, length=6, seed=0):
    random = np.random.default_rng(seed)
    museums = np.array(["Met", "LACMA", "Cleveland"], dtype=object)
    return Artefacts(
        {
            "embedding": random.uniform(0, 6, (rows, length)).astype(np.float32),
            "width": random.uniform(100, 4000, rows),
            "height": random.uniform(100, 4000, rows),
            "museum": museums[random.integers(0, 3, rows)],
            "Year": np.where(random.random(rows) < 0.2, np.nan, random.integers(1500, 1900, rows)),
            "Culture": np.array(["Greek", "Roman", ""], dtype=object)[random.integers(0, 3, rows)],
        }
    )


def sizes_of(width, height):
    return Artefacts({"width": np.array([float(width)]), "height": np.array([float(height)])})


PLAIN_PCA = {"components": 3, "whitening": 0.0, "unit_length": False}


def params(embedding="standardize", sizes=True, museum=False, pca=None, **columns):
    section = PLAIN_PCA | (pca or {}) if embedding == "pca" else {}
    return Params(
        **{"embedding": embedding, embedding: section}, sizes=sizes, museum=museum, columns=columns
    )


def fit(train, params, identity=None):
    """The transformer that is fitted on these rows, which are in the memory together."""
    embeddings = None if params.embedding == "none" else train["embedding"]
    return featurize.fit(train, params, embeddings, identity)


def test_standardized_training_features_have_mean_0_and_standard_deviation_1():
    train = artefacts()
    features = fit(train, params()).transform(train)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("embedding", ["standardize", "power"])
def test_a_constant_number_in_the_embedding_becomes_zero(embedding):
    train = artefacts()
    train["embedding"][:, 2] = 6
    features = fit(train, params(embedding)).transform(train)
    assert (features[:, 2] == 0).all()


def test_raw_leaves_the_embedding_as_it_is():
    train = artefacts()
    features = fit(train, params("raw", sizes=False)).transform(train)
    np.testing.assert_array_equal(features, train["embedding"])


def test_power_is_the_transform_of_scikit_learn_standardised():
    train = artefacts()
    train["embedding"][:] = np.exp(train["embedding"]) - 5  # skewed, and on both sides of 0
    features = fit(train, params("power", sizes=False)).transform(train)
    expected = PowerTransformer().fit_transform(train["embedding"].astype(np.float64))
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_power_gives_no_huge_exponent_to_a_number_that_one_row_alone_has():
    train = artefacts()
    train["embedding"][:, 1] = 0
    train["embedding"][7, 1] = 1e-9  # the best exponent is below -1e10
    transformer = fit(train, params("power", sizes=False))
    assert np.abs(transformer.blocks[0].exponents).max() <= 8
    train["embedding"][:, 1] = 6
    assert np.isfinite(transformer.transform(train)).all()


@pytest.mark.parametrize("logarithm", [0.0, 2.0])
@pytest.mark.parametrize("off", [0.0, 1e-9, -1e-9, 9e-7, -9e-7, -1e-6])
def test_an_exponent_is_never_one_at_which_the_transform_is_a_logarithm(logarithm, off):
    found = apart_from_logarithms(logarithm + off)
    assert abs(found - logarithm) == pytest.approx(1e-6)
    assert np.sign(found - logarithm) == (np.sign(off) or 1)
    values = np.array([[-2.0], [-0.1], [0.0], [0.3], [5.0]], dtype=np.float32)
    expected = yeojohnson(values[:, 0].astype(np.float64), logarithm)
    transformed = yeo_johnson(values, np.array([found]))
    np.testing.assert_allclose(transformed[:, 0], expected, rtol=1e-5)


def test_other_exponents_stay_as_they_are():
    for exponent in (-3.0, -2e-6, 2e-6, 0.5, 1.99, 2.1):
        assert apart_from_logarithms(exponent) == exponent


def test_exponents_are_kept_apart_from_logarithms(monkeypatch):
    class Fitted:
        def __init__(self, standardize):
            self.lambdas_ = [-1e-9]

        def fit(self, values):
            return self

    monkeypatch.setattr("sklearn.preprocessing.PowerTransformer", Fitted)
    assert fit_exponents(artefacts()["embedding"]).tolist() == [-1e-6] * 6


@pytest.mark.parametrize("products", [False, True])
def test_moments_of_parts_add_up_to_those_of_all_rows(products):
    values = np.random.default_rng(0).normal(1e4, 2, (9000, 5)).astype(np.float32)
    values[:, 3] = 0.1
    values[:4096, 4] += 1e6  # one part lies elsewhere
    found = Moments.in_parts(values, products)
    assert found.count == 9000
    np.testing.assert_allclose(found.mean, values.mean(axis=0, dtype=np.float64), rtol=1e-13)
    expected = np.cov(values.T.astype(np.float64), ddof=0) * 9000
    away = found.squares - (expected if products else np.diagonal(expected))
    scale = np.sqrt(np.diagonal(expected)) + 1e-9
    assert np.abs(away / (scale[:, None] * scale if products else scale**2)).max() < 1e-12
    assert found.deviations[3] == 1
    np.testing.assert_allclose(found.deviations[:3], values.std(axis=0)[:3], rtol=1e-4)


@pytest.mark.parametrize("type_", [np.float32, np.float64])
def test_moments_are_those_of_scikit_learn_to_the_last_bit(type_):
    values = np.random.default_rng(0).normal(3, 2, (500, 150)).astype(type_)
    values[:, 70] = 0.1  # the same everywhere: its deviation is rounding
    mean, scale = moments(values)
    expected = StandardScaler().fit(values)
    np.testing.assert_array_equal(mean, expected.mean_)
    np.testing.assert_array_equal(scale, expected.scale_)
    assert scale[70] == 1


def test_a_number_that_varies_by_less_than_32_bits_can_hold_is_in_no_component():
    train = artefacts()
    train["embedding"][:, 2] = 0
    train["embedding"][5, 2] = 1e-45
    features = fit(train, params("pca", sizes=False)).transform(train)
    train["embedding"][5, 2] = 0
    expected = fit(train, params("pca", sizes=False)).transform(train)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-6)


def test_exact_components_are_those_of_scikit_learn():
    values = StandardScaler().fit_transform(artefacts(length=9)["embedding"])
    expected = PCA(4, svd_solver="covariance_eigh").fit(values)
    found, variances = principal_components(values, 4)
    np.testing.assert_allclose(found, expected.components_, rtol=0, atol=1e-5)
    np.testing.assert_allclose(variances, expected.explained_variance_, rtol=1e-5)


def test_principal_components_are_uncorrelated_and_sorted_by_variance():
    train = artefacts()
    transformer = fit(train, params("pca", sizes=False))
    scores = transformer.transform(train)
    assert transformer.feature_names == ["pca_0", "pca_1", "pca_2"]
    covariance = np.cov(scores.T)
    # The components are rounded to 16 bits.
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3)
    assert (np.diff(np.diag(covariance)) < 0).all()


@pytest.mark.parametrize(("rows", "length", "found"), [(60, 6, 6), (5, 6, 4), (60, 200, 8)])
def test_there_are_as_many_components_as_rows_and_dimensions_allow(rows, length, found):
    most = {"components": 8}
    names = fit(artefacts(rows, length), params("pca", sizes=False, pca=most)).feature_names
    assert names == [f"pca_{number}" for number in range(found)]


@pytest.mark.parametrize("whitening", [0.25, 1.0])
def test_whitening_divides_each_component_by_a_power_of_its_deviation(whitening):
    train = artefacts()
    plain = fit(train, params("pca", sizes=False)).transform(train).astype(np.float64)
    white = params("pca", sizes=False, pca={"whitening": whitening})
    expected = plain / plain.std(axis=0, ddof=1) ** whitening
    np.testing.assert_allclose(fit(train, white).transform(train), expected, atol=1e-3)


def test_components_that_do_not_vary_are_left_out():
    train = artefacts()
    train["embedding"][:, 3:] = train["embedding"][:, :3]
    whole = {"components": 6, "whitening": 1.0}
    transformer = fit(train, params("pca", sizes=False, pca=whole))
    assert transformer.feature_names == ["pca_0", "pca_1", "pca_2"]
    np.testing.assert_allclose(transformer.transform(train).std(axis=0, ddof=1), 1, rtol=1e-3)


def test_rows_of_one_length_have_a_mean_square_of_1_and_keep_their_direction():
    train = artefacts()
    plain = fit(train, params("pca", sizes=False)).transform(train)
    unit = fit(train, params("pca", sizes=False, pca={"unit_length": True})).transform(train)
    np.testing.assert_allclose(np.square(unit).mean(axis=1), 1, rtol=1e-6)
    expected = plain / np.sqrt(np.square(plain).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(unit, expected, rtol=1e-5, atol=1e-6)


def test_a_row_that_is_the_mean_of_all_has_no_length_and_stays_zero():
    train = artefacts()
    transformer = fit(train, params("pca", sizes=False, pca={"unit_length": True}))
    mean = replace(transformer.blocks[0], mean=np.ones(6))
    ones = Artefacts({"embedding": np.ones((1, 6), dtype=np.float32)})
    assert Transformer([mean]).transform(ones).tolist() == [[0, 0, 0]]


def test_what_becomes_of_the_components_is_said():
    def treatment(**pca):
        return fit(artefacts(), params("pca", pca=pca)).describe()[0]["treatment"]

    assert treatment() == "standardised, then 3 principal components (`pca`)"
    assert "components, made to vary more alike (" in treatment(whitening=0.25)
    assert "components, each row scaled to one length (" in treatment(unit_length=True)


def long_rows(rows=80):
    """Embeddings that are too long for the exact solver, with a few strong patterns."""
    random = np.random.default_rng(0)
    strengths = np.array([9, 5, 3, 2, 1])[:, None]
    patterns = random.normal(size=(5, LONGEST_EXACT + 1)) * strengths
    noise = random.normal(size=(rows, LONGEST_EXACT + 1))
    values = random.normal(size=(rows, 5)) @ patterns + 0.1 * noise
    return Artefacts({"embedding": values.astype(np.float32)})


def test_the_components_of_a_long_embedding_are_nearly_the_exact_ones():
    train = long_rows()
    components = {"components": 5}
    scores = fit(train, params("pca", sizes=False, pca=components)).transform(train)
    values = StandardScaler().fit_transform(train["embedding"].astype(np.float64))
    left, strengths, _ = np.linalg.svd(values, full_matrices=False)
    expected = left[:, :5] * strengths[:5]
    np.testing.assert_allclose(np.abs(scores), np.abs(expected), atol=2e-3 * expected.max())


def test_a_long_embedding_gives_the_same_bytes_with_any_number_of_threads(tmp_path):
    for name, threads in (("one.npz", 1), ("two.npz", 2)):
        with threadpool_limits(threads, user_api="blas"):
            fit(long_rows(), params("pca", sizes=False)).save(tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_fitting_leaves_the_training_rows_as_they_are():
    train = long_rows()
    before = train["embedding"].copy()
    fit(train, params("pca", sizes=False))
    np.testing.assert_array_equal(train["embedding"], before)


def test_the_components_take_16_bits_a_number(tmp_path):
    train = long_rows()
    fit(train, params("pca", sizes=False)).save(tmp_path / "a.npz")
    length = train["embedding"].shape[1]
    # The means and the scales have 64 each.
    assert (tmp_path / "a.npz").stat().st_size < length * (3 * 2 + 2 * 8) + 4000


def test_sizes_are_logarithms_and_the_last_ignores_orientation():
    expected = [np.log(200), np.log(100), np.log(20000), np.log(2), np.log(2)]
    np.testing.assert_allclose(logarithms(sizes_of(200, 100))[0], expected)
    np.testing.assert_allclose(logarithms(sizes_of(100, 200))[0, 3:], [-np.log(2), np.log(2)])


def test_the_museum_is_one_column_each_and_an_unknown_one_is_all_zeros():
    train = artefacts()
    transformer = fit(train, params("none", sizes=False, museum=True))
    assert transformer.feature_names == ["museum=Cleveland", "museum=LACMA", "museum=Met"]
    assert (transformer.transform(train).sum(axis=1) == 1).all()
    stranger = Artefacts({"museum": np.array(["Louvre"], dtype=object)})
    assert transformer.transform(stranger).tolist() == [[0, 0, 0]]


def test_a_number_is_standardised_and_a_missing_one_counts_as_the_mean_and_says_so():
    train = artefacts()
    transformer = fit(train, params("none", sizes=False, Year="number"))
    assert transformer.feature_names == ["Year", "Year is missing"]
    value, missing = transformer.transform(train).T
    known = ~np.isnan(train["Year"])
    np.testing.assert_allclose(value[known].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(value[known].std(), 1, atol=1e-6)
    assert (value[~known] == 0).all()
    np.testing.assert_array_equal(missing, ~known)


def test_a_number_that_no_training_row_lacks_has_one_feature_and_a_constant_one_becomes_zero():
    train = artefacts().with_columns({"Year": np.full(60, 1850.0)})
    transformer = fit(train, params("none", sizes=False, Year="number"))
    assert transformer.feature_names == ["Year"]
    assert (transformer.transform(train) == 0).all()
    absent = train.with_columns({"Year": np.full(60, np.nan)})
    assert (transformer.transform(absent) == 0).all()


def test_a_category_is_one_feature_for_each_text_a_missing_one_among_them():
    train = artefacts()
    transformer = fit(train, params("none", sizes=False, Culture="category"))
    assert transformer.feature_names == ["Culture=", "Culture=Greek", "Culture=Roman"]
    expected = train["Culture"][:, None] == np.array(["", "Greek", "Roman"])
    np.testing.assert_array_equal(transformer.transform(train), expected)


def test_a_constant_number_is_zero_also_where_its_mean_is_rounded():
    # The standard deviation of these is 2e-13, and not 0.
    train = artefacts(rows=72).with_columns({"Year": np.full(72, 1900.1)})
    transformer = fit(train, params("none", sizes=False, Year="number"))
    other = train.with_columns({"Year": np.full(72, 1950.0)})
    assert np.abs(transformer.transform(train)).max() < 1e-6
    assert np.abs(transformer.transform(other)).max() < 100


def test_columns_that_cannot_be_features_are_refused_by_name():
    huge = artefacts().with_columns({"Year": np.array([1.7e308, -1.7e308] * 30)})
    with pytest.raises(PipelineError, match="`Year` are too large for their mean and deviation"):
        fit(huge, params(Year="number"))
    nothing = artefacts().with_columns({"Year": np.full(60, np.nan)})
    with pytest.raises(PipelineError, match="no training row has a number in the column `Year`"):
        fit(nothing, params(Year="number"))
    names = np.array([str(number) for number in range(1200)], dtype=object)
    rows = artefacts(rows=1200).with_columns({"Culture": names})
    with pytest.raises(PipelineError, match="`Culture` has 1,200 different texts in train"):
        fit(rows, params(Culture="category"))


@pytest.mark.parametrize("embedding", ["none", "raw", "standardize", "power", "pca"])
def test_a_saved_transformer_gives_the_same_features_and_bytes(tmp_path, embedding):
    train = artefacts()
    transformer = fit(train, params(embedding, museum=True))
    for name in ("a.npz", "b.npz"):
        transformer.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = Transformer.load(tmp_path / "a.npz")
    assert loaded.feature_names == transformer.feature_names
    np.testing.assert_array_equal(loaded.transform(train), transformer.transform(train))


def test_a_saved_transformer_is_a_zip_file_of_the_plain_form(tmp_path):
    # Of the large one, Python up to 3.11.3 makes other bytes than later ones.
    fit(artefacts(), params()).save(tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        for entry in archive.infolist():
            header = content[entry.header_offset :][:30]
            version, length_of_extras = header[4], int.from_bytes(header[28:30], "little")
            assert (version, length_of_extras, entry.date_time[0]) == (20, 0, 1980)


def test_a_saved_transformer_with_a_pickle_in_it_is_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", **{"0.category.values": np.array([{"Met"}], dtype=object)})
    with pytest.raises(PipelineError, match=r"a\.npz cannot be used \(it holds a pickle"):
        Transformer.load(tmp_path / "a.npz")


def test_the_identity_of_the_embedding_goes_with_the_transformer(tmp_path):
    identity = {"network": "N", "weights": "W", "pooling": "max", "resize": "nearest"}
    for embedding in ("raw", "standardize", "power", "pca"):
        fit(artefacts(), params(embedding), identity).save(tmp_path / "a.npz")
        assert Transformer.load(tmp_path / "a.npz").embedding_identity == identity
    assert fit(artefacts(), params("none"), identity).embedding_identity is None
    assert fit(artefacts(), params()).embedding_identity is None


def onnx_model(transformer):
    """The transformer alone as an ONNX model."""
    graph = Graph()
    values, _ = transformer.add_to(graph)
    graph.output("features", values, np.float32, len(transformer.feature_names))
    return onnxruntime.InferenceSession(graph.to_bytes({}, ""))


def features_of_file(transformer, artefacts):
    model = onnx_model(transformer)
    taken = {node.name: artefacts[node.name] for node in model.get_inputs()}
    return model.run(None, taken)[0]


PARTS = {
    "all": params(museum=True, Year="number", Culture="category"),
    "embedding": params(sizes=False),
    "raw embedding": params("raw", sizes=False),
    "sizes": params("none"),
    "museum": params("none", sizes=False, museum=True),
    "number": params("none", sizes=False, Year="number"),
}


@pytest.mark.parametrize("part", PARTS)
def test_the_file_gives_the_same_features_to_the_last_bit(part):
    transformer = fit(artefacts(), PARTS[part])
    new = artefacts(rows=3000, seed=1)
    new["width"][:1000] = np.arange(1, 1001)
    new["museum"][::7] = "Louvre"
    found = features_of_file(transformer, new)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, transformer.transform(new))


def test_the_file_gives_the_same_power_transform():
    train = artefacts()
    train["embedding"][:] = np.exp(train["embedding"]) - 5  # on both sides of 0
    transformer = fit(train, params("power"))
    found = features_of_file(transformer, train)
    np.testing.assert_allclose(found, transformer.transform(train), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pca", [{}, {"whitening": 0.25, "unit_length": True}], ids=str)
def test_the_file_gives_the_same_principal_components(pca):
    transformer = fit(artefacts(), params("pca", museum=True, pca=pca))
    new = artefacts(rows=3000, seed=1)
    expected = transformer.transform(new)
    np.testing.assert_allclose(features_of_file(transformer, new), expected, rtol=0, atol=1e-6)


def test_the_file_gives_the_same_components_of_a_long_embedding():
    whole = {"whitening": 0.25, "unit_length": True}
    transformer = fit(long_rows(), params("pca", sizes=False, pca=whole))
    new = long_rows(rows=200)
    expected = transformer.transform(new)
    np.testing.assert_allclose(features_of_file(transformer, new), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("part", "columns"),
    [
        ("all", ["embedding", "width", "height", "museum", "Year", "Culture"]),
        ("embedding", ["embedding"]),
        ("sizes", ["width", "height"]),
        ("museum", ["museum"]),
        ("number", ["Year"]),
    ],
)
def test_the_file_takes_the_columns_that_it_needs_and_no_others(part, columns):
    model = onnx_model(fit(artefacts(), PARTS[part]))
    assert [node.name for node in model.get_inputs()] == columns


def schema(length):
    return artefacts_schema("file", length, {"Year": "number", "Culture": "category"})


@pytest.mark.parametrize(
    ("chosen", "length", "problem"),
    [
        (params("none", sizes=False), 8, "no features: set `featurize.embedding`"),
        (params("standardize"), None, "the table has no embeddings: set `featurize.embedding`"),
        (params(Year="nmber"), 8, r"`featurize\.columns\.Year` should be category or number, not"),
        (params(Year="category"), 8, "Year` is category, which takes a category, but"),
        (params(Culture="number"), 8, "`extra_columns` says that it holds a category"),
        (params(Yaer="number"), 8, "it keeps: Year, Culture"),
        (params(medium="category"), 8, "names the row, its label or its subset"),
        (params(width="category"), 8, "a category, but the column holds a number"),
        (params(probabilities="number"), 8, "has a name that the model's file uses itself"),
        (params(embedding_3="number"), 8, "has the name of a feature of the embedding"),
    ],
)
def test_parameters_that_do_not_fit_the_table_are_refused(chosen, length, problem):
    with pytest.raises(PipelineError, match=problem):
        check_params(chosen, schema(length))


def test_a_column_with_the_name_of_a_kind_is_refused():
    # Its features would stand in the place of the sizes in the importance and on the page.
    with pytest.raises(PipelineError, match="has a name that the model's file uses itself"):
        check_column("sizes", "number", schema(8))


def test_the_museum_is_asked_for_in_one_place():
    with pytest.raises(PipelineError, match=r"is what `featurize\.museum` is for"):
        check_column("museum", "category", schema(8))


def test_two_features_of_one_name_are_refused():
    with pytest.raises(PipelineError, match="two of the features are called `museum=Met`"):
        check_names(["museum=Met", "log_width", "museum=Met"])


@pytest.mark.parametrize("columns", [{}, {"Year": "number", "Culture": "category"}])
def test_each_kind_says_what_becomes_of_it_and_what_is_left_out_says_so(columns):
    used = fit(artefacts(), params(museum=True, **columns)).describe()
    assert [kind["name"] for kind in used] == ["embedding", "sizes", "museum", *columns]
    assert all(kind["inputs"] and kind["features"] and kind["treatment"] for kind in used)
    left = fit(artefacts(), params("none", sizes=not columns, **columns)).describe()
    assert [kind["name"] for kind in left] == ["embedding", "sizes", "museum", *columns]
    assert left[0]["treatment"] == left[2]["treatment"] == "left out"
    assert left[0]["inputs"] == left[2]["inputs"] == []
    assert json.loads(json.dumps(used)) == used


@pytest.mark.parametrize("rows", [1, 5])
def test_rows_that_are_all_alike_have_no_principal_components(rows):
    train = artefacts(rows)
    train["embedding"][:] = train["embedding"][0]
    with pytest.raises(PipelineError, match="are all alike, so that they have no principal comp"):
        fit(train, params("pca"))


def run_to_features(folder, rows):
    """Parse, split and featurize rows in the current folder, as the pipeline does."""
    raw = folder / "data/raw"
    raw.mkdir(parents=True, exist_ok=True)
    write_csv_table(raw / "t.csv", rows)
    (raw / "provenance.json").write_text(json.dumps({"source": "file", "file": "t.csv"}))
    for stage in (parse_embeddings_to_parquet, split, featurize):
        stage.main()


@pytest.mark.parametrize("embedding", ["standardize", "power", "pca"])
@pytest.mark.parametrize("other", ["val", "test"])
def test_rows_that_are_not_for_training_leave_no_trace_in_training_features(
    stage_folder, set_params, embedding, other
):
    set_params(
        **{
            "featurize.embedding": embedding,
            "featurize.museum": True,
        }
    )
    rows = tiny_rows()
    run_to_features(stage_folder, rows)
    kept = [features_path("train"), TRANSFORMER]
    before = [path.read_bytes() for path in kept]
    other_before = features_path(other).read_bytes()
    for row in rows:
        if row["Subset"] == other:
            row["MobileNetV1 features"] = [6 - x for x in row["MobileNetV1 features"]]
            row["Width"], row["Museum"] = row["Width"] * 3, "Another museum"
            row["Product size"] = row["Aspect ratio"] = None
    run_to_features(stage_folder, rows)
    assert [path.read_bytes() for path in kept] == before
    assert features_path(other).read_bytes() != other_before


def test_rows_sorted_by_subset_give_the_same_features(stage_folder):
    # Then some row groups have no row of a subset.
    text = (stage_folder / "params.yaml").read_text()
    (stage_folder / "params.yaml").write_text(text.replace("rows: 4096", "rows: 20"))
    rows = tiny_rows()
    run_to_features(stage_folder, rows)
    mixed = {subset: read_features(subset) for subset in ("train", "val", "test")}
    run_to_features(stage_folder, sorted(rows, key=lambda row: row["Subset"]))
    for subset, features in mixed.items():
        again = read_features(subset)
        np.testing.assert_array_equal(again.image_files, features.image_files)
        np.testing.assert_allclose(again.values, features.values, atol=1e-6)


@pytest.mark.parametrize("embedding", ["raw", "standardize", "power", "pca"])
def test_the_stage_fits_by_row_groups_what_is_fitted_on_all_rows(
    stage_folder, set_params, embedding
):
    set_params(
        **{
            "featurize.embedding": embedding,
            "parse_embeddings_to_parquet.row_group_rows": 20,
        }
    )
    run_to_features(stage_folder, tiny_rows())
    subset_of = subsets_of_artefacts()
    columns = ["embedding", "width", "height"]
    train = Artefacts.join(list(read_artefacts("train", subset_of, columns, "test")))
    expected = fit(train, params(embedding, pca={"components": 8}))
    found = Transformer.load(TRANSFORMER).blocks[0]
    assert embedding == "raw" or found.mean.any()
    for name in ("mean", "scale", "exponents"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected.blocks[0], name), 1e-12)
    if embedding == "pca":
        np.testing.assert_allclose(found.components, expected.blocks[0].components, atol=1e-3)


def test_features_carry_their_names_labels_files_and_source(stage_folder, set_params):
    set_params(**{"featurize.embedding": "standardize"})
    rows = tiny_rows(length=3)
    run_to_features(stage_folder, rows)
    train = read_features("train")
    expected = [row for row in rows if row["Subset"] == "train"]
    assert train.image_files.tolist() == [row["Image file"] for row in expected]
    assert train.mediums.tolist() == [row["Medium"] for row in expected]
    assert train.names[:4] == ["embedding_0", "embedding_1", "embedding_2", "log_width"]
    assert train.source == "file"
    assert pq.read_schema(features_path("train")).names == ["image_file", "medium", "features"]
    raw = Artefacts(
        {
            "embedding": np.array([row["MobileNetV1 features"] for row in expected], np.float32),
            "width": np.array([row["Width"] for row in expected]),
            "height": np.array([row["Height"] for row in expected]),
        }
    )
    np.testing.assert_array_equal(train.values, Transformer.load(TRANSFORMER).transform(raw))
