"""The metadata journal: torn ends, damage in the middle, rewriting."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.broker.errors import ForeignJournalError, JournalCorruptError, JournalUnavailableError
from streamchar.broker.journal import Journal


def _replay(path: Path) -> tuple[Journal, list[object]]:
    seen: list[object] = []
    journal = Journal(path, 1000)
    journal.open({"note": seen.append})
    return journal, seen


@settings(max_examples=60, deadline=None)
@given(notes=st.lists(st.text(max_size=30), max_size=10), data=st.data())
def test_torn_end_loses_only_what_was_torn(notes: list[str], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "journal"
        journal, _ = _replay(path)
        ends = []
        for note in notes:
            journal.append("note", note)
            ends.append(path.stat().st_size)
        journal.close()
        size = path.stat().st_size
        cut = data.draw(st.integers(0, size))
        os.truncate(path, cut)
        journal, seen = _replay(path)
        assert seen == notes[: sum(end <= cut for end in ends)]
        journal.append("note", "next")
        journal.close()
        journal, again = _replay(path)
        assert again == [*seen, "next"]
        journal.close()


def test_damage_before_the_end_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal, _ = _replay(path)
    for number in range(3):
        journal.append("note", number)
    journal.close()
    content = bytearray(path.read_bytes())
    content[12] ^= 1
    path.write_bytes(content)
    with pytest.raises(JournalCorruptError, match="line 1"):
        _replay(path)


def test_a_file_of_that_name_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text("2026-01-02: clear, seeing 0.7\n2026-01-03: rain\n")
    with pytest.raises(ForeignJournalError, match="no journal of a broker"):
        _replay(path)
    assert path.read_text().endswith("rain\n")


def test_rewriting_replaces_the_history(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal, _ = _replay(path)
    while not journal.overgrown:
        journal.append("note", "again and again")
    journal.rewrite([("note", "short")])
    assert not journal.overgrown
    journal.append("note", "after")
    journal.close()
    journal, seen = _replay(path)
    assert seen == ["short", "after"]
    journal.close()


def test_unknown_events_are_skipped(tmp_path: Path) -> None:
    journal, _ = _replay(tmp_path / "journal")
    journal.append("from a later version", 1, 2)
    journal.append("note", "known")
    journal.close()
    journal, seen = _replay(tmp_path / "journal")
    assert seen == ["known"]
    journal.close()


def test_full_disk_is_reported_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _ = _replay(tmp_path / "journal")
    journal.append("note", "first")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(JournalUnavailableError, match="No space left"):
        journal.append("note", "second")
    monkeypatch.undo()
    journal.append("note", "third")
    journal.close()
    journal, seen = _replay(tmp_path / "journal")
    assert seen == ["first", "third"]
    journal.close()


@pytest.mark.parametrize("step", ["os.fsync", "streamchar.broker.journal._sync_directory"])
def test_a_rewriting_that_fails_loses_neither_events_nor_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "journal"
    journal, _ = _replay(path)
    journal.append("note", "before")
    files = len(list(Path("/proc/self/fd").iterdir()))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                journal.rewrite([("note", "before")])
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    journal.append("note", "after")
    journal.close()
    journal, seen = _replay(path)
    assert seen == ["before", "after"]
    journal.close()
