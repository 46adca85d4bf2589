"""Which files may be read: only what lies below the roots, links resolved, of the announced bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.stream.errors import (
    ChecksumError,
    ChecksumFormatError,
    FileMissingError,
    FileTooLargeError,
    FileUnreadableError,
    OutsideRootsError,
    PermanentError,
    RetryableError,
    UnsupportedSchemeError,
)
from streamchar.stream.fetch import locate


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a file.fits").write_bytes(b"pixels")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder / "loop")
    return folder


def test_paths_and_file_uris_below_a_root(root: Path) -> None:
    file = root / "a file.fits"
    digest = hashlib.sha256(b"pixels").hexdigest()
    for uri in (
        str(file),
        f"file://{root}/a%20file.fits",
        f"file://localhost{root}/a%20file.fits",
        f"{root}/x/../a file.fits",
    ):
        assert locate(uri, [root], 100, f"sha256:{digest}") == file.resolve()


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("{root}/../secret", OutsideRootsError),
        ("{root}/link", OutsideRootsError),
        ("/etc/passwd", OutsideRootsError),
        ("file:///etc/passwd", OutsideRootsError),
        ("a file.fits", OutsideRootsError),
        ("", OutsideRootsError),
        ("{root}/nul\0byte", OutsideRootsError),
        ("s3://bucket/key", UnsupportedSchemeError),
        ("file://otherhost{root}/a%20file.fits", UnsupportedSchemeError),
        ("http://[bad", UnsupportedSchemeError),
        ("{root}/absent.fits", FileMissingError),
        ("{root}/a file.fits/below", FileMissingError),
        ("{root}", FileUnreadableError),
        ("{root}/" + "x" * 300, FileUnreadableError),
    ],
)
def test_refusals(root: Path, uri: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        locate(uri.replace("{root}", str(root)), [root], 100)


def test_link_loops_size_checksum_and_no_roots(root: Path) -> None:
    file = str(root / "a file.fits")
    with pytest.raises((OutsideRootsError, FileUnreadableError)):
        locate(str(root / "loop"), [root], 100)
    with pytest.raises(FileTooLargeError, match="6 bytes"):
        locate(file, [root], 5)
    with pytest.raises(ChecksumError, match="announced was 0000"):
        locate(file, [root], 100, "sha256:" + "0" * 64)
    with pytest.raises(ChecksumFormatError):
        locate(file, [root], 100, "md5:abc")
    with pytest.raises(OutsideRootsError, match="none are configured"):
        locate(file, [], 100)


@given(st.text(max_size=50))
def test_whatever_is_announced_nothing_else_is_raised(uri: str) -> None:
    try:
        found = locate(uri, [Path("/nonexistent-root")], 100)
    except (PermanentError, RetryableError):
        return
    assert found.is_relative_to("/nonexistent-root")
