"""What the log of a server that did not start says, in words that tell what to do. Standard library only."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """`advice` follows the sentence "did not start on port N" and may name {folder} and {port}."""

    pattern: str
    advice: str
    is_lock: bool = False


_UNKNOWN = Fault("", ".")
_PORT = Fault(
    r"address already in use|EADDRINUSE|Could not create server TCP",
    ": the port is taken. Stop what listens on {port}, or ask for another port.",
)
_FAULTS = (
    _PORT,
    Fault(
        r"DBPathInUse|Unable to lock the lock file",
        ": {folder} is in use by another running mongod. Stop that one, or choose another data folder.",
        is_lock=True,
    ),
    Fault(
        r"error while loading shared libraries: (lib)?curl",
        ": it needs libcurl (Debian and Ubuntu: sudo apt install libcurl4).",
    ),
    Fault(
        r"error while loading shared libraries",
        ": this system lacks a library it needs. Install that one, or the server itself from your system's packages.",
    ),
    Fault(r"No space left on device|disk is full", ": the disk with {folder} is full."),
    Fault(
        r"UPGRADE PROBLEM|featureCompatibilityVersion|Can't handle RDB format version|unsupported WiredTiger file",
        ": {folder} was written by another version of the server. Use that version, or another data folder.",
    ),
    Fault(
        r"Bad file format reading the append only file",
        ": its log of writes in {folder} is damaged. Repair it with redis-check-aof --fix, or move it away.",
    ),
    Fault(
        r"WT_TRY_SALVAGE|WiredTiger error.*corrupt",
        ": the files in {folder} are damaged. Restore them or move them away.",
    ),
    Fault(r"Permission denied|IllegalOperation.*permission", ": this user may not write to {folder}."),
)


def describe_fault(log_lines: Sequence[str]) -> Fault:
    """The known fault that `log_lines` speak of; one without advice when there is none."""
    text = "\n".join(log_lines)
    return next((fault for fault in _FAULTS if re.search(fault.pattern, text, re.IGNORECASE)), _UNKNOWN)


def lost_the_port(log_lines: Sequence[str]) -> bool:
    """Whether another server took the port first."""
    return describe_fault(log_lines) is _PORT
