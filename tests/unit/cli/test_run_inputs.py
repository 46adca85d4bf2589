"""What the user names: patterns, addresses, and names for the products that never collide."""

import pytest

from streamchar.cli.run import exit_code
from streamchar.cli.run_inputs import find_inputs
from streamchar.errors import ConfigurationError
from streamchar.image.access import Access


def stems(*names):
    return [chosen.stem for chosen in find_inputs(names, Access())]


@pytest.fixture
def night(tmp_path, monkeypatch):
    for name in ("a/1.fits", "a/2.fits.fz", "b/1.fits", "b/odd[1].fits"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_patterns_are_expanded_in_order(night):
    assert [chosen.source for chosen in find_inputs(["*/*.fits*"], Access())] == [
        "a/1.fits",
        "a/2.fits.fz",
        "b/1.fits",
        "b/odd[1].fits",
    ]
    assert [chosen.source for chosen in find_inputs(["**/2*"], Access())] == ["a/2.fits.fz"]


def test_a_name_with_brackets_is_a_name_when_it_exists(night):
    assert [chosen.source for chosen in find_inputs(["b/odd[1].fits"], Access())] == ["b/odd[1].fits"]


def test_a_folder_is_refused_with_what_to_say_instead(night):
    for name in ("a", "a/"):
        with pytest.raises(
            ConfigurationError, match=rf"^{name}: is a folder; name its files, .* 'a/\*\.fits'"
        ):
            find_inputs(["b/1.fits", name], Access())


def test_a_pattern_without_match_is_refused(night):
    with pytest.raises(ConfigurationError, match=r"^c/\*.fits: matches no file"):
        find_inputs(["a/1.fits", "c/*.fits"], Access())


def test_a_file_is_taken_once(night):
    assert stems("a/1.fits", "a/*") == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("/data/night/c4d_170316.fits.fz", "c4d_170316"),
        ("frame.FIT.gz", "frame"),
        ("fpC-006377-g4-0399.fit.gz", "fpC-006377-g4-0399"),
        ("exposure.fits#N4", "exposure-N4"),
        ("https://archive.example.org/get/a%20b.fits?token=secret", "a_b"),
        ("s3://night/2026-11-22/x.fits.fz#2", "x-2"),
        ("file:///data/y.fits", "y"),
        ("strange", "strange"),
        ("none/....fits", "exposure"),
        ("<script>.fits", "_script_"),
        ("Größe 1.fits", "Größe_1"),
    ],
)
def test_products_are_named_after_the_file(name, stem):
    assert stems(name) == [stem]


def test_names_of_products_do_not_collide():
    assert stems("a/x.fits", "b/x.fits", "b/X.fits.gz", "x-2.fits") == ["x", "x-2", "X-3", "x-2-2"]


def test_patterns_are_expanded_on_s3(monkeypatch):
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="night")
        for name in ("raw/b.fits.fz", "raw/a.fits.fz", "raw/notes.txt"):
            client.put_object(Bucket="night", Key=name, Body=b"x")
        client.close()
        found = find_inputs(["s3://night/raw/*.fits.fz"], Access(endpoint=endpoint))
        assert [chosen.source for chosen in found] == ["s3://night/raw/a.fits.fz", "s3://night/raw/b.fits.fz"]
        with pytest.raises(ConfigurationError, match="matches no file"):
            find_inputs(["s3://night/cooked/*.fits"], Access(endpoint=endpoint))
        with pytest.raises(ConfigurationError, match=r"matches no file|cannot be listed"):
            find_inputs(["s3://no-such-bucket/*.fits"], Access(endpoint=endpoint))
    finally:
        server.stop()


def test_the_exit_code_counts_failures():
    assert [exit_code(number) for number in (0, 1, 2, 89, 90, 91, 100_000)] == [0, 11, 12, 99, 100, 100, 100]
