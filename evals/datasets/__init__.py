"""Data sets of every common layout, in one form.

``open_dataset(name_or_path, split=…, task=…)`` opens a set of the registry by name, or a folder or file, and
gives an ``OpenDataset``: an iterable of ``Example``, with the task that it asks. An example holds

- ``id``: unique in its set, the image's path relative to the folder or the question's number;
- ``images``: one file or several (arrays are unpacked into files);
- the truth: ``labels`` of closed tasks, spelt as the task's options; ``question``, ``choices`` and accepted
  ``answers``; or ``report``;
- ``context``: what was said before the question;
- ``group`` (patient, lesion, study) and ``split``; no group crosses splits, and a test split stays as it was
  published;
- ``extras``: whatever else the set says, as text.

Layouts: a folder per class, ``labels.csv``, MedMNIST's ``.npz``, tables of many forms (CSV, JSON, JSON
lines), conversations of InternVL and MedDr, the reference's meta files, the common question sets, image and
report, and DICOM folders. ``entries/*.toml`` holds the registry: for each set its licence, where to get it,
its layouts, and how many examples must be there.
"""

from __future__ import annotations

from .entry import DatasetEntry
from .example import Example, OpenDataset
from .loader import open_dataset
from .registry import entries, entry

__all__ = ["DatasetEntry", "Example", "OpenDataset", "entries", "entry", "open_dataset"]
