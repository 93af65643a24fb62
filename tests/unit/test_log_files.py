"""The files of LOG_DIR: bounded, owned by one process each, and never a reason for a job to fail."""

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.log.files import MOST_FILES, LogFiles, file_name, unwritable


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Ear:
    """What was complained of."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def __call__(self, why: str, lost: int) -> None:
        self.heard.append((why, lost))


def deaf(why: str, lost: int) -> None:
    raise AssertionError(f"complained: {why}, {lost}")


def lines_of(directory: Path, base: str = "worker") -> list[str]:
    return [line for path in directory.glob(f"{base}.*") for line in path.read_text().splitlines()]


def test_each_workflow_has_a_file_and_the_rest_has_the_process_own(tmp_path: Path) -> None:
    """Who looks for what a workflow did reads one file."""
    files = LogFiles(tmp_path / "logs", "worker", deaf)
    files.write("start\n")
    files.write("read\n", "Import Bills")
    files.write("write\n", "import bills")
    files.close()
    assert {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()} == {
        "worker.log": "start\n",
        "import-bills.log": "read\nwrite\n",
    }


def test_others_cannot_read_it(tmp_path: Path) -> None:
    """Lines may hold names and numbers of customers."""
    files = LogFiles(tmp_path / "logs", "worker", deaf)
    files.write("x\n")
    assert stat.S_IMODE((tmp_path / "logs" / "worker.log").stat().st_mode) & 0o137 == 0
    assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) & 0o027 == 0


@pytest.mark.parametrize(
    ("workflow", "name"),
    [
        ("invoices", "invoices"),
        ("../../etc/passwd", "etc-passwd"),
        ("Tạo báo cáo", "tao-bao-cao"),
        ("worker", "workflow-worker"),
        ("API", "workflow-api"),
        ("a.2", "a-2"),
        ("...", ""),
        ("", ""),
        ("x" * 500, "x" * 60),
        ("a\nb\x00c", "a-b-c"),
    ],
    ids=range(10),
)
def test_a_workflows_name_makes_a_harmless_file_name(workflow: str, name: str) -> None:
    """It comes from outside, and must neither leave the directory nor be the file of something else."""
    assert file_name(workflow) == name


@given(st.text())
def test_no_name_is_a_path(workflow: str) -> None:
    """No separator, no dot, no name that the process' own files or those of a second process have."""
    name = file_name(workflow)
    assert not set(name) & set("/.\\~\0 ")
    assert name not in ("worker", "api")


def test_a_full_file_is_put_aside_and_the_oldest_leaves(tmp_path: Path) -> None:
    """A log has an end on the disk: so many files of such a size."""
    files = LogFiles(tmp_path, "worker", deaf, limits=(100, 3))
    for number in range(100):
        files.write(f"line {number:04}\n")
    files.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "worker.log",
        *(f"worker.log.{number}" for number in (1, 2, 3)),
    ]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    kept = "".join((tmp_path / name).read_text() for name in ("worker.log.2", "worker.log.1", "worker.log"))
    assert kept.splitlines() == [f"line {number:04}" for number in range(70, 100)]


def test_a_workflow_has_limits_of_its_own(tmp_path: Path) -> None:
    """There may be many of them."""
    files = LogFiles(tmp_path, "worker", deaf, limits_of_workflow=(100, 2))
    for number in range(100):
        files.write(f"line {number:04}\n", "invoices")
    files.close()
    assert {path.name for path in tmp_path.iterdir()} == {"invoices.log", "invoices.log.1", "invoices.log.2"}


def test_a_line_longer_than_a_file_is_written_all_the_same(tmp_path: Path) -> None:
    """In a file of its own."""
    files = LogFiles(tmp_path, "worker", deaf, limits=(10, 2))
    files.write("short\n")
    files.write("x" * 50 + "\n")
    assert (tmp_path / "worker.log").read_text() == "x" * 50 + "\n"


def test_processes_do_not_write_into_each_others_files(tmp_path: Path) -> None:
    """Three at once, each of them turning its files over again and again: no line lost, none torn, none twice."""
    ours = [LogFiles(tmp_path, "worker", deaf, limits=(500, 1000)) for _ in range(3)]
    wanted = []
    for number in range(300):
        for who, files in enumerate(ours):
            wanted.append(f"process {who} line {number}")
            files.write(wanted[-1] + "\n")
    assert sorted(lines_of(tmp_path)) == sorted(wanted)
    assert {path.name for path in tmp_path.glob("*.log")} == {"worker.log", "worker.2.log", "worker.3.log"}
    for number, path in enumerate(("worker.log", "worker.2.log", "worker.3.log")):
        assert {line.split()[1] for line in (tmp_path / path).read_text().splitlines()} == {str(number)}


def test_who_comes_after_one_that_ended_has_its_file(tmp_path: Path) -> None:
    """A restart goes on in the same file: names do not pile up."""
    for number in range(3):
        files = LogFiles(tmp_path, "worker", deaf)
        files.write(f"start {number}\n")
        files.close()
    assert (tmp_path / "worker.log").read_text() == "start 0\nstart 1\nstart 2\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_directory_that_takes_nothing_costs_only_the_lines(tmp_path: Path) -> None:
    """It is told once a minute with how many are missing, and goes on where it can be written again."""
    clock, ear = Clock(), Ear()
    blocked = tmp_path / "logs"
    blocked.write_text("a file where the directory should be")
    files = LogFiles(blocked, "worker", ear, monotonic=clock)
    for _ in range(50):
        files.write("lost\n")
    assert ear.heard == [("File exists", 1)]
    clock.now += 61
    files.write("lost\n")
    assert ear.heard[1:] == [("File exists", 50)]
    blocked.unlink()
    clock.now += 61
    files.write("kept\n")
    assert (blocked / "worker.log").read_text() == "kept\n"


def test_a_full_disk_costs_only_the_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker goes on, says what it cannot write, and writes again when there is room."""

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real, ear = os.write, Ear()
    files = LogFiles(tmp_path, "worker", ear)
    files.write("one\n")
    monkeypatch.setattr(os, "write", full)
    files.write("lost\n")
    monkeypatch.setattr(os, "write", real)
    files.write("two\n")
    assert ear.heard == [("No space left on device", 1)]
    assert (tmp_path / "worker.log").read_text() == "one\ntwo\n"


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk takes half a line before it is full; the first line after that begins anew."""
    real, ear = os.write, Ear()
    files = LogFiles(tmp_path, "worker", ear)
    files.write("first\n")
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    files.write("second\n")
    monkeypatch.setattr(os, "write", real)
    files.write("third\n")
    assert (tmp_path / "worker.log").read_text() == "first\nsec\nthird\n"
    assert ear.heard == [("the disk is full", 1)]


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    """An operator's logrotate, or rm."""
    clock = Clock()
    files = LogFiles(tmp_path, "worker", deaf, monotonic=clock)
    files.write("one\n")
    (tmp_path / "worker.log").rename(tmp_path / "old")
    clock.now += 10
    files.write("two\n")
    assert ((tmp_path / "old").read_text(), (tmp_path / "worker.log").read_text()) == ("one\n", "two\n")


def test_workflows_without_end_do_not_fill_the_directory(tmp_path: Path) -> None:
    """Their lines stand in the process' own file then; also over a restart."""
    for start in range(2):
        files = LogFiles(tmp_path, "worker", deaf)
        for number in range(MOST_FILES):
            files.write(f"{start} {number}\n", f"workflow {start} {number}")
        files.close()
    assert len(list(tmp_path.glob("*.log"))) <= MOST_FILES + 1
    assert len(lines_of(tmp_path)) >= MOST_FILES
    assert sum(len(path.read_text().splitlines()) for path in tmp_path.iterdir()) == 2 * MOST_FILES


def test_whether_it_can_be_written_is_told_before(tmp_path: Path) -> None:
    """For the doctor: None, or the reason; nothing stays behind."""
    assert unwritable(tmp_path / "logs") is None
    assert list((tmp_path / "logs").iterdir()) == []
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "file") == "File exists"
    assert unwritable(tmp_path / "file" / "below") == "Not a directory"
