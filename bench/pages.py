"""Pages of memory by their place in the machine, so that those of two processes can be told apart."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _FRAME = np.uint64(1 << 63), np.uint64((1 << 55) - 1)


def bytes_of_its_own(pid: int, family: Iterable[int]) -> int:
    """What process `pid` would have to itself if there were no others on this machine than `family`.

    The kernel's own figure leaves out the pages of a library that anybody else has in use, so that it depends on who
    happens to be there. Only root sees the places of pages; for others this is 0.
    """
    shared = np.concatenate([_frames(each) for each in family])
    return int(np.setdiff1d(_frames(pid), shared).size) * _PAGE


def _frames(pid: int) -> np.ndarray:
    """Each once. uint64 (pages,)."""
    found = [np.empty(0, np.uint64)]
    with open(f"/proc/{pid}/pagemap", "rb") as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(number, 16) // _PAGE for number in line.split()[0].split("-"))
            if line.endswith("[vsyscall]"):  # the kernel's
                continue
            pagemap.seek(start * 8)
            entries = np.frombuffer(pagemap.read((end - start) * 8), np.uint64)
            found.append(entries[(entries & _PRESENT) != 0] & _FRAME)
    return np.setdiff1d(np.concatenate(found), [0])
