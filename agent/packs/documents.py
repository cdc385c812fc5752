"""What a reader finds in a pack: a model card in the form of the hub, metadata in MONAI's form, licences."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from ... import __version__
from ...case import DISCLAIMER, Task, TaskKind
from ...graphs.certificate import certify
from ...graphs.collaboration_fit import CollaborationFit
from ...models.specialist.card import MetricValue, SpecialistCard

_LIMITS = (0.05, 0.10)


def model_card(
    task: Task,
    cards: Mapping[str, SpecialistCard],
    fit: CollaborationFit | None,
    record: Mapping[str, Any],
    cases: int,
    licences: Mapping[str, str],
) -> str:
    """Write ``README.md`` as a model card of the hub: front matter, then what a user must know.

    Args:
        task: the card.
        cards: of the specialists, by name.
        fit: what was fitted; None for nothing.
        record: of the build; empty for none.
        cases: number of known cases.
        licences: of each part.
    """
    names = sorted(set(licences.values()))
    lines = [
        "---",
        "library_name: gsco",
        "pipeline_tag: image-classification",
        "license: other",
        f"license_name: {_quoted('; '.join(names))}",
        "license_link: LICENCE.txt",
        "tags:",
        *(f"- {tag}" for tag in ("medical", "medical-imaging", "image-classification")),
        "---",
        "",
        f"# {task.title or task.name}",
        "",
        f"A task of gsco: {task.modality}, {', '.join(task.options)}.",
        "",
        f"{DISCLAIMER}",
        "",
        "## Use",
        "",
        "```bash",
        "gsco pack verify FILE",
        "gsco pack install FILE",
        f"gsco diagnose IMAGE --task {task.name}",
        "gsco eval external FILE FOLDER --out FOLDER   # measures it on your own images first",
        "```",
        "",
        "## Specialists",
        "",
        "| name | architecture | validation | test | data | licence |",
        "|---|---|---|---|---|---|",
    ]
    for name, card in cards.items():
        numbers = [_number(card.metrics.get(split, {}).get("balanced_accuracy")) for split in ("val", "test")]
        data = card.data.name if card.data else ""
        lines.append(f"| {name} | {card.architecture} | {' | '.join(numbers)} | {data} | {card.licence} |")
    lines += ["", "Balanced accuracy with its 95 % interval, on the maker's own images.", ""]
    lines += [f"Known cases for retrieval: {cases}.", "", "## Decision", "", *_decision(fit), ""]
    if arms := record.get("arms"):
        lines += ["## Measured on the test images of the build", "", "| arm | accuracy |", "|---|---|"]
        for arm in arms:
            accuracy = arm["accuracy"]
            lines.append(
                f"| {arm['arm']} | {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}] |"
            )
        lines.append("")
    lines += ["## Licences", "", *(f"- {what}: {text}" for what, text in licences.items()), ""]
    if task.source:
        lines += ["## Source", "", task.source, ""]
    return "\n".join(lines)


def _decision(fit: CollaborationFit | None) -> list[str]:
    if fit is None:
        return [
            "Nothing was fitted: sources are weighed by their reliability, and no error limit is certified."
        ]
    lines = [
        f"Rule `{fit.rule}` of {', '.join(fit.chosen)}, fitted on {fit.cases} cases of {fit.groups} groups."
    ]
    if len(fit.held_out):
        lines += [f"At most {limit:.0%} wrong: {certify(fit.held_out, limit).words}" for limit in _LIMITS]
        lines.append(
            "A certificate holds for images like those that it was made on; measure at your own site."
        )
    return lines


def _number(metric: MetricValue | None) -> str:
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]" if metric is not None else "–"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def licences_text(name: str, licences: Mapping[str, str]) -> str:
    """Write ``LICENCE.txt``."""
    lines = [f"Licences of the parts of the pack {name}, as their cards state them:", ""]
    return "\n".join([*lines, *(f"{what}: {text}" for what, text in licences.items()), ""])


def bundle_metadata(
    task: Task, cards: Mapping[str, SpecialistCard], licences: Mapping[str, str]
) -> dict[str, object]:
    """Return ``configs/metadata.json`` in the form of a MONAI bundle, with one network per specialist."""
    return {
        "version": __version__,
        "changelog": {__version__: "written by gsco pack export"},
        "monai_version": "",
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in ("timm", "safetensors", "pillow")},
        "name": task.title or task.name,
        "task": f"{task.modality}: {', '.join(task.options)}",
        "description": f"Specialists, known cases and decision rule of the gsco task {task.name}.",
        "authors": "",
        "copyright": "; ".join(f"{what}: {text}" for what, text in licences.items()),
        "intended_use": DISCLAIMER,
        "data_source": task.source,
        "data_type": "image",
        "image_classes": f"RGB image of {task.modality}",
        "label_classes": list(task.options),
        "network_data_format": {name: _data_format(task, card) for name, card in cards.items()},
    }


def _data_format(task: Task, card: SpecialistCard) -> dict[str, object]:
    side = card.transform.side
    low, high = ((edge - card.transform.mean[0]) / card.transform.std[0] for edge in (0, 1))
    several = task.kind is TaskKind.MULTILABEL
    return {
        "architecture": card.architecture,
        "inputs": {
            "image": {
                "type": "image",
                "format": "magnitude",
                "modality": task.modality,
                "num_channels": 3,
                "spatial_shape": [side, side],
                "dtype": "float32",
                "value_range": [round(low, 4), round(high, 4)],
                "is_patch_data": False,
                "channel_def": {"0": "R", "1": "G", "2": "B"},
            }
        },
        "outputs": {
            "pred": {
                "type": "probabilities",
                "format": "multi-label" if several else "classes",
                "num_channels": len(card.labels),
                "spatial_shape": [1],
                "dtype": "float32",
                "value_range": [0, 1],
                "is_patch_data": False,
                "channel_def": dict(zip(map(str, range(len(card.labels))), card.labels, strict=True)),
            }
        },
    }
