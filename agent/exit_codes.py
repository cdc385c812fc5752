"""How a failure reaches whoever typed the command: one line on stderr and an exit status."""

from __future__ import annotations

from ..errors import ConfigurationError, GscoError, ImageError, TaskError, TextTooLong

BAD_INPUT = 2
FAILED = 1


def exit_code(error: GscoError) -> int:
    """Choose the exit status: 2 where an image, a text, a task or a setting is wrong, else 1."""
    bad = isinstance(error, ImageError | TaskError | TextTooLong | ConfigurationError)
    return BAD_INPUT if bad else FAILED


def one_line(message: object) -> str:
    """Write a message of the command as one line."""
    return visible(" ".join(f"gsco: {message}".split()))


def visible(text: str) -> str:
    """Replace what could steer a terminal: file names and models' texts may hold anything."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else " " if sign.isspace() else "\N{REPLACEMENT CHARACTER}"
        for sign in text
    )
