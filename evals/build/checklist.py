"""The items of CLAIM 2024 and TRIPOD+AI that a build can fill by itself, and those that a person must.

CLAIM: Tejani et al., Radiology: Artificial Intelligence 2024, 6(4):e240300. TRIPOD+AI: Collins et al.,
BMJ 2024, 385:e078378.
"""

from __future__ import annotations

from typing import NamedTuple

from .record import BuildRecord

BY_A_PERSON = ""


class ChecklistItem(NamedTuple):
    """One item and what a machine can say of it; empty where only a person can."""

    source: str
    item: str
    said: str


def checklist(record: BuildRecord) -> list[ChecklistItem]:
    """The sheet of a build."""
    images = ", ".join(f"{part} {count}" for part, count in record.images.items())
    labels = "; ".join(f"{label}: {sum(of.values())}" for label, of in record.counts.items())
    models = ", ".join(f"{name} ({digits})" for name, digits in record.specialists.items())
    arms = ", ".join(f"{one.arm} {one.accuracy.value:.3f}" for one in record.arms)
    notes = "; ".join(record.notes)
    promises = " ".join(one.words for one in record.promises) or "Nothing can be promised."
    return [
        ChecklistItem("CLAIM 1", "Model type and task", f"{record.kind}: {', '.join(record.counts)}"),
        ChecklistItem("CLAIM 5–6", "Study design and goal", BY_A_PERSON),
        ChecklistItem("CLAIM 7", "Data sources", BY_A_PERSON),
        ChecklistItem("CLAIM 8", "Inclusion and exclusion", notes or "All images are used."),
        ChecklistItem("CLAIM 9", "Preprocessing", "resized to the networks' inputs"),
        ChecklistItem("CLAIM 12", "De-identification", BY_A_PERSON),
        ChecklistItem("CLAIM 14–18", "Reference standard", BY_A_PERSON),
        ChecklistItem("CLAIM 19", "Partitions", f"{images}; no patient or group is in two of them"),
        ChecklistItem("CLAIM 20", "Level of partitions", "patient or group where given, else equal files"),
        ChecklistItem("CLAIM 21", "Sample size", labels),
        ChecklistItem(
            "CLAIM 22–24",
            "Model, software, initialisation",
            f"gsco {record.gsco}; {models}; ImageNet weights, seed {record.seed}",
        ),
        ChecklistItem(
            "CLAIM 25–26",
            "Training and selection",
            "regularisation and temperature out of fold on train and fit by log loss",
        ),
        ChecklistItem("CLAIM 27", "Ensembling", ", ".join(record.chosen) or "weighed by reliability"),
        ChecklistItem(
            "CLAIM 28–29",
            "Metrics and uncertainty",
            "95 % intervals by bootstrap of whole groups, 2,000 draws",
        ),
        ChecklistItem("CLAIM 32", "External testing", BY_A_PERSON),
        ChecklistItem("CLAIM 35–37", "Results", f"{record.test_images} test images: accuracy {arms}"),
        ChecklistItem("CLAIM 38", "Failure analysis", "confusion matrix and the surest errors on this page"),
        ChecklistItem("TRIPOD+AI 12", "Missing data", notes or "none seen"),
        ChecklistItem("TRIPOD+AI 14", "Fairness", _fairness(record)),
        ChecklistItem("TRIPOD+AI 15", "Output and thresholds", promises),
        ChecklistItem("TRIPOD+AI 18", "Ethics, funding, registration, data sharing", BY_A_PERSON),
        ChecklistItem("TRIPOD+AI 26–27", "Limitations and usability", BY_A_PERSON),
    ]


def _fairness(record: BuildRecord) -> str:
    """What is known of subgroups; empty where no column tells them."""
    columns = ", ".join(dict.fromkeys(one.trait for one in record.subgroups))
    return f"accuracy by {columns}: see the table of subgroups" if columns else BY_A_PERSON
