"""What may be read: below the roots, from allowed hosts and buckets, of bounded size, of the announced bytes."""

import gzip
import hashlib
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.image import Exposure
from streamchar.image.access import Access, local_file, locate, split_extension
from streamchar.image.errors import (
    AccessError,
    ChecksumError,
    ChecksumFormatError,
    ExposureTooLargeError,
    FileMissingError,
    FileTooLargeError,
    FileUnreadableError,
    HostRefusedError,
    MissingExtraError,
    OutsideRootsError,
    RedirectRefusedError,
    UnreadableExposureError,
    UnsupportedSchemeError,
)
from streamchar.image.fits import ReadOptions, read_exposure
from tests import fits_files
from tests.pretended_s3 import pretended_s3

PIXELS = b"pixels" * 1000


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a file.fits").write_bytes(PIXELS)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "database").mkdir()
    (tmp_path / "database" / "a.fits").write_bytes(b"not below data")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path / "database")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "inside").symlink_to(folder / "a file.fits")
    return folder


def test_paths_and_file_addresses_below_a_root(root):
    file, access = root / "a file.fits", Access(roots=(root,))
    digest = hashlib.sha256(PIXELS).hexdigest()
    for uri in (
        str(file),
        f"file://{root}/a%20file.fits",
        f"file://localhost{root}/a%20file.fits",
        f"{root}/x/../a file.fits",
        f"{root}/inside",
    ):
        with local_file(uri, access, f"sha256:{digest}") as found:
            assert found.path.resolve() == file.resolve()


def test_a_link_that_is_set_after_the_look_comes_too_late(root, monkeypatch):
    file, access = root / "a file.fits", Access(roots=(root,))
    with local_file(str(file), access) as found:
        file.unlink()
        file.symlink_to(root.parent / "secret")
        assert found.path.read_bytes() == PIXELS
    monkeypatch.setattr(
        "streamchar.image.access.locate", lambda uri, access: Path(uri)
    )  # looked before the link
    with pytest.raises(OutsideRootsError), local_file(str(file), access):
        pass


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("{root}/../secret", OutsideRootsError),
        ("{root}/link", OutsideRootsError),
        ("{root}/folder/a.fits", OutsideRootsError),
        ("{root}base/a.fits", OutsideRootsError),
        ("file://{root}/%2e%2e/secret", OutsideRootsError),
        ("file://{root}/..%2Fsecret", OutsideRootsError),
        ("/etc/passwd", OutsideRootsError),
        ("file:///etc/passwd", OutsideRootsError),
        ("file:/etc/passwd", OutsideRootsError),
        ("/proc/self/environ", OutsideRootsError),
        ("a file.fits", OutsideRootsError),
        ("", OutsideRootsError),
        ("{root}/nul\0byte", OutsideRootsError),
        ("ftp://host/a.fits", UnsupportedSchemeError),
        ("file://otherhost{root}/a%20file.fits", UnsupportedSchemeError),
        ("http://[bad", UnsupportedSchemeError),
        ("{root}/absent.fits", FileMissingError),
        ("{root}/a file.fits/below", FileMissingError),
        ("{root}", FileUnreadableError),
        ("{root}/" + "x" * 300, FileUnreadableError),
    ],
)
def test_refused_paths(root, uri, error):
    with pytest.raises(error):
        locate(uri.replace("{root}", str(root)), Access(roots=(root,)))


def test_loops_of_links_sizes_checksums_and_no_roots(root):
    file = str(root / "a file.fits")
    with pytest.raises((OutsideRootsError, FileUnreadableError)):
        locate(str(root / "loop"), Access(roots=(root,)))
    with pytest.raises(FileTooLargeError, match="6000 bytes"):
        locate(file, Access(max_bytes=5999))
    with pytest.raises(ChecksumError, match="announced was 0000"), local_file(file, Access(), "0" * 64):
        pass
    with pytest.raises(ChecksumFormatError), local_file(file, Access(), "md5:abc"):
        pass
    with pytest.raises(OutsideRootsError, match="none are configured"):
        locate(file, Access(roots=()))


@given(st.text(max_size=50))
def test_whatever_is_announced_nothing_else_is_raised(uri):
    access = Access(roots=(Path("/nonexistent-root"),), hosts=(), buckets=())
    with pytest.raises(AccessError) as caught, local_file(uri, access):
        pass
    assert len(str(caught.value)) < 2000


def test_extensions_are_told_from_names(tmp_path):
    (tmp_path / "a#b.fits").write_bytes(b"")
    assert split_extension(str(tmp_path / "a#b.fits")) == (str(tmp_path / "a#b.fits"), "")
    assert split_extension("/data/a.fits#N4") == ("/data/a.fits", "N4")
    assert split_extension("https://host/a.fits#N%204") == ("https://host/a.fits", "N 4")
    assert split_extension("/data/#x/a.fits") == ("/data/#x/a.fits", "")


class Handler(BaseHTTPRequestHandler):
    """A server with every vice."""

    protocol_version = "HTTP/1.1"
    files: Mapping[str, bytes]
    other: str
    seen: list[str]

    def do_GET(self):
        self.seen.append(self.path)
        name = self.path.partition("?")[0].rpartition("/")[2]
        answer = getattr(self, "answer_" + name.replace("-", "_"), None)
        self.close_connection = True
        try:
            if answer is not None:
                answer()
            elif name in self.files:
                self.give(self.files[name])
            else:
                self.send_error(404)
        except ConnectionError:
            pass

    def give(self, content, length=None, **headers):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.send_header("Connection", "close")
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def redirect(self, target, code=302):
        self.send_response(code)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer_same_host(self):
        self.redirect("/pixels", 301)

    def answer_other_host(self):
        self.redirect(f"{self.other}/pixels")

    def answer_other_name(self):
        self.redirect(f"http://localhost:{self.server.server_port}/pixels", 307)

    def answer_to_file(self):
        self.redirect("file:///etc/passwd")

    def answer_for_ever(self):
        self.redirect(self.path + "x/for-ever")

    def answer_too_short(self):
        self.give(PIXELS, length=len(PIXELS) + 500)

    def answer_too_long(self):
        self.give(PIXELS, length=100)

    def answer_huge(self):
        self.give(b"", length=1 << 50)

    def answer_negative(self):
        self.give(PIXELS, length=-5)

    def answer_endless(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 65536)

    def answer_endless_chunks(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")

    def answer_drip(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x")
            time.sleep(0.05)

    def answer_silent(self):
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.flush()
        time.sleep(3)

    def answer_broken(self):
        self.wfile.write(b"\0\1\2 this is no HTTP\r\n\r\n")

    def answer_secret(self):
        self.send_error(403)

    def answer_trouble(self):
        self.send_error(503)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving(files):
    """Run a server; give its class, whose attributes it uses, and its address."""
    kind = type("Server", (Handler,), {"files": files, "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield kind, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def host(monkeypatch):
    """Two servers, of which the second must never be asked; the first one's address, and access to it alone."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with (
        serving({"pixels": b"of another host"}) as (other, address),
        serving({"pixels": PIXELS}) as (kind, origin),
    ):
        kind.other = address
        port = origin.rpartition(":")[2]
        yield origin, Access(hosts=(f"127.0.0.1:{port}",), plain_http=True, max_bytes=100_000, timeout=1.0)
        assert other.seen == []


def fetched(uri, access, checksum=None):
    with local_file(uri, access, checksum) as file:
        return file.path.read_bytes()


def test_a_file_of_a_host_arrives_whole_and_is_removed(host):
    origin, access = host
    digest = hashlib.sha256(PIXELS).hexdigest()
    with local_file(f"{origin}/night/pixels?version=3", access, digest) as file:
        assert file.path.read_bytes() == PIXELS
        assert file.name == "pixels"
        path = file.path
    assert not path.exists()
    assert fetched(f"{origin}/same-host", access) == PIXELS
    with pytest.raises(ChecksumError):
        fetched(f"{origin}/pixels", access, "0" * 64)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("absent", FileMissingError, "no such file"),
        ("secret", FileUnreadableError, "HTTP 403"),
        ("trouble", FileUnreadableError, "HTTP 503"),
        ("other-host", RedirectRefusedError, "it leads to another host"),
        ("other-name", RedirectRefusedError, "it leads to another host"),
        ("to-file", RedirectRefusedError, "file:///etc/passwd is not followed"),
        ("for-ever", RedirectRefusedError, "there were 5 before"),
        ("too-short", FileUnreadableError, "ended after 6000 of 6500 bytes"),
        ("huge", FileTooLargeError, "1125899906842624 bytes"),
        ("endless", FileTooLargeError, "exceed the limit of 100000"),
        ("endless-chunks", FileTooLargeError, "exceed the limit of 100000"),
        ("silent", FileUnreadableError, "timed out"),
        ("broken", FileUnreadableError, "cannot be read"),
    ],
)
def test_vicious_servers_are_a_typed_error(host, name, error, words):
    origin, access = host
    with pytest.raises(error, match=words) as caught:
        fetched(f"{origin}/{name}", access)
    assert caught.value.retryable == issubclass(error, FileMissingError | FileUnreadableError)


def test_a_shorter_length_than_the_body_gives_the_announced_part(host):
    origin, access = host
    assert fetched(f"{origin}/too-long", access) == PIXELS[:100]


def test_a_body_that_drips_ends_at_the_deadline(host):
    origin, access = host
    with pytest.raises(FileUnreadableError, match=r"bytes arrived within 0\.4 s"):
        fetched(f"{origin}/drip", access.model_copy(update={"deadline": 0.4}))


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:1/pixels",
        "http://user:password@127.0.0.1:{port}/pixels",
        "http://127.0.0.1:{port}@example.org/pixels",
        "http://example.org/pixels",
        "http://127.0.0.1:{port}.example.org/pixels",
        "http://127.0.0.1:{port}/pix els",
        "http://127.0.0.1:{port}/a\r\nHost: other",
        "http:///pixels",
        "http://localhost:{port}/pixels",
    ],
)
def test_other_hosts_are_never_asked(host, uri):
    origin, access = host
    with pytest.raises((HostRefusedError, UnsupportedSchemeError)):
        fetched(uri.replace("{port}", origin.rpartition(":")[2]), access)


def test_hosts_by_pattern_and_plain_http_only_on_request(host):
    origin, access = host
    with pytest.raises(UnsupportedSchemeError, match=r"http:// only with fetch\.plain_http"):
        fetched(f"{origin}/pixels", access.model_copy(update={"plain_http": False}))
    with pytest.raises(HostRefusedError):  # a host without port means the usual port
        fetched(f"{origin}/pixels", access.model_copy(update={"hosts": ("127.0.0.1",)}))
    assert fetched(f"{origin}/pixels", access.model_copy(update={"hosts": ("127.0.*:*",)})) == PIXELS
    with pytest.raises(FileUnreadableError):  # that server speaks no TLS
        fetched(origin.replace("http:", "https:") + "/pixels", access)
    with pytest.raises(FileUnreadableError):
        fetched("http://127.0.0.1:1/pixels", access.model_copy(update={"hosts": None}))


def test_an_exposure_with_companions_is_read_from_a_host(tmp_path):
    image = fits_files.decam(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    local = read_exposure(f"{image}#N4")
    with serving(files) as (kind, origin):
        access = Access(hosts=(origin.removeprefix("http://"),), plain_http=True)
        exposure = Exposure.read(f"{origin}/night/{image.name}#N4", access=access)
        assert kind.seen == [f"/night/{image.name.replace('ooi', f'oo{letter}')}" for letter in "idw"]
        assert exposure.source == f"{origin}/night/{image.name}"
    assert (exposure.image == local.image).all()
    assert (exposure.mask == local.mask).all()


def test_gzip_bombs_and_false_claims_are_refused(tmp_path):
    bomb = tmp_path / "bomb.fits.gz"
    with gzip.open(bomb, "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(ExposureTooLargeError, match="max_unpacked_bytes"):
        read_exposure(bomb, ReadOptions(max_unpacked_bytes=1 << 20))
    path = fits_files.plain(tmp_path)
    with pytest.raises(ExposureTooLargeError, match="max_pixels"):
        read_exposure(path, ReadOptions(max_pixels=1000))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"NAXIS1  =                   56", b"NAXIS1  =               999999"))
    with pytest.raises(UnreadableExposureError, match="truncated"):
        read_exposure(path)
    path.write_bytes(whole.replace(b"END     ", b"ENDE    ") + b" " * (1 << 20))
    with pytest.raises(ExposureTooLargeError, match="max_header_bytes"):
        read_exposure(path, ReadOptions(max_header_bytes=1 << 18))


@pytest.fixture(scope="module")
def s3():
    """A pretended S3 with two buckets."""
    with pretended_s3("night", "private") as pretended:
        yield pretended.client, pretended.endpoint


def test_buckets(s3, tmp_path):
    client, endpoint = s3
    image = fits_files.decam(tmp_path)
    for path in tmp_path.iterdir():
        client.upload_file(str(path), "night", f"2026/{path.name}")
    client.put_object(Bucket="private", Key="a.fits", Body=PIXELS)
    access = Access(buckets=("night/2026",), endpoint=endpoint, max_bytes=1 << 20, timeout=5.0)
    exposure = Exposure.read(f"s3://night/2026/{image.name}#N2", access=access)
    assert (exposure.image == read_exposure(f"{image}#N2").image).all()

    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    assert fetched(f"s3://night/2026/{image.name}", access, digest) == image.read_bytes()
    with pytest.raises(ChecksumError):
        fetched(f"s3://night/2026/{image.name}", access, "0" * 64)
    with pytest.raises(FileMissingError):
        fetched("s3://night/2026/absent.fits", access)
    with pytest.raises(FileTooLargeError):
        fetched(f"s3://night/2026/{image.name}", access.model_copy(update={"max_bytes": 1000}))
    for refused in (
        "private/a.fits",
        "night/other.fits",
        "night/2026/../../private/a.fits",
        "night/20266/a",
        "night",
    ):
        with pytest.raises(HostRefusedError):
            fetched(f"s3://{refused}", access)
    silent = access.model_copy(update={"endpoint": "http://127.0.0.1:1", "timeout": 0.5})
    with pytest.raises(FileUnreadableError):
        fetched(f"s3://night/2026/{image.name}", silent)


def test_without_s3fs_the_fix_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'streamchar\[s3\]'"):
        fetched("s3://night/a.fits", Access())
