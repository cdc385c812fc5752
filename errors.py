"""Every error that gsco raises on purpose.

::

    GscoError
    ├── ImageError                 an image cannot be used
    │   ├── ImageMissing           no such file, or no such image id in the store
    │   ├── ImageUnreadable        empty, truncated or not an image
    │   ├── ImageUnsupported       a format, codec or pixel layout that is not supported
    │   └── ImageTooLarge          over the limit on bytes, pixels or frames
    ├── TaskError                  a task card is wrong, or the task does not fit
    │   ├── TaskUnknown            no task of that name
    │   └── TaskMismatch           the image is not of the task's modality
    ├── SpecialistError            a specialist cannot be loaded, trained or run
    ├── StoreError                 a case store cannot be opened, read or written
    │   └── VectorMismatch         a vector's width or encoder is not the store's
    ├── GeneralistError            the generalist cannot be loaded, reached or understood
    │   ├── AnswerUnparsed         the text matches none of the options
    │   ├── CallUnreadable         a tool call was cut off
    │   └── PromptTooLong          the prompt is longer than the generalist reads
    ├── TextTooLong                a text is longer than the limit on characters
    ├── DiskError                  a file cannot be written: the disk is full, or may not be written to
    ├── EvidenceMissing            policy ``require``: a specialist or the store failed
    ├── ThreadError                a conversation cannot be opened or stored
    │   ├── ThreadUnknown          no conversation of that name
    │   ├── ConversationsUnavailable  their file or database cannot be reached
    │   └── ReviewOpen             a person's decision is awaited first
    └── ConfigurationError         a setting or a configuration file is wrong
        └── UnknownArgument        no setting or argument of that name; also a ``TypeError``

A message says what is wrong and what to do about it. It never holds patient data: no DICOM tag,
no clinical text, no file content.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from .case import Diagnosis


class GscoError(Exception):
    """Base of every error raised on purpose; catch it to catch them all."""

    results: tuple[Diagnosis | None, ...] = ()
    """If the error stopped ``diagnose_many``: the diagnoses made before it, None for the other cases."""


class ImageError(GscoError):
    """An image cannot be used."""


class ImageMissing(ImageError):
    """No such file, or no such image id in the image store."""


class ImageUnreadable(ImageError):
    """The bytes are empty, truncated or not an image."""


class ImageUnsupported(ImageError):
    """An image of a format, codec or pixel layout that is not supported."""


class ImageTooLarge(ImageError):
    """The image is over a limit on bytes, pixels or frames."""


class TaskError(GscoError):
    """A task card is wrong, or the task does not fit the image."""


class TaskUnknown(TaskError):
    """There is no task of that name."""


class TaskMismatch(TaskError):
    """The image does not look like the task's modality."""


class SpecialistError(GscoError):
    """A specialist cannot be loaded, trained or run."""


class StoreError(GscoError):
    """A case store cannot be opened, read or written."""


class VectorMismatch(StoreError):
    """A vector's width or encoder differs from what the store holds."""


class GeneralistError(GscoError):
    """The generalist cannot be loaded, reached or understood."""


class AnswerUnparsed(GeneralistError):
    """The generalist's text matches none of the task's options."""


class CallUnreadable(GeneralistError):
    """The generalist's tool call cannot be read although its form was constrained: it was cut off."""


class PromptTooLong(GeneralistError):
    """The prompt is longer than the generalist's context; with less evidence it may fit."""


class TooManyImages(PromptTooLong):
    """The prompt has more images than the generalist takes at once."""


class TextTooLong(GscoError):
    """A text exceeds the limit on characters, alone or together with the request's other texts."""


class DiskError(GscoError):
    """A file cannot be written: the disk is full, over quota, failing or write-protected."""


class EvidenceMissing(GscoError):
    """A specialist or the store failed and the policy requires its evidence."""


class ThreadError(GscoError):
    """A conversation cannot be opened or stored, or is in the wrong state."""


class ThreadUnknown(ThreadError):
    """There is no conversation of that name."""


class ConversationsUnavailable(ThreadError):
    """The file or the database of conversations cannot be reached."""


class ReviewOpen(ThreadError):
    """The conversation waits for a person's decision and cannot continue before it."""


class ReviewRefused(ThreadError):
    """This user may not make the decision, or signs it with another user's name."""


class ConfigurationError(GscoError):
    """A setting or a configuration file is wrong."""


class UnknownArgument(ConfigurationError, TypeError):
    """No setting or argument of that name; the message names the closest one."""

    @classmethod
    def of(cls, names: Iterable[str], known: Iterable[str], kind: str) -> Self:
        """Make the error, with a suggestion for each name that has one.

        Args:
            names: that were given.
            known: that there are.
            kind: ``setting`` or ``argument``.
        """
        known = sorted(known)
        parts = []
        for name in names:
            close = get_close_matches(name, known, n=1, cutoff=0.6)
            parts.append(f"there is no {kind} {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
        return cls("; ".join(parts))
