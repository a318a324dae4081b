"""Inspection: what decoding one raw value said about it. Made by an Input, used by the audit, the split and the cache."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Inspection:
    """Either usable (`problem` empty) or not, with the reason in words."""

    problem: str = ""
    """Kind of the problem: unreadable, truncated, empty, constant, foreign, over-large; empty = usable."""
    detail: str = ""
    warnings: tuple[tuple[str, str], ...] = ()
    """(kind, sentence) pairs: of another type than its name says, and so on."""
    content: str = ""
    """Hash of the decoded content: equal for equal pictures, whatever the file format."""
    fingerprint: int = 0
    """Perceptual hash, 64 bit: near for pictures that look alike."""
    shape: tuple[int, ...] = ()
    """Of the decoded value, such as (rows, columns, channels)."""
