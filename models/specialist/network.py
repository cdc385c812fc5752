"""A timm network seen as a trunk (image → embedding) and a head (embedding → logits)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from ...errors import SpecialistError
from ..vision_imports import import_timm

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .card import Transform

_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
"""A name of timm's registry, with or without a tag; neither a path nor an address."""
_MAX_DERIVED = 2**29
"""Bytes of tensors that a network computes for itself and that are not among its weights."""


def network_of_weights(
    architecture: str,
    classes: int,
    state: Mapping[str, Tensor],
    *,
    source: str,
    image_size: int | None = None,
) -> nn.Module:
    """Build a timm network around the weights of a card, in evaluation mode.

    Nothing is allocated for a network that the weights do not fit: their names and shapes are compared
    with an outline of the network, on torch's ``meta`` device, before it is built.

    Args:
        architecture: a name of timm's registry.
        classes: width of the classifier.
        state: float32 tensors by name; the network may share their memory.
        source: of the weights, named in errors.
        image_size: see ``create_network``.

    Raises:
        SpecialistError: the name is not one of timm's, or the weights are those of another network.
    """
    import torch

    if not _NAME.fullmatch(architecture):
        raise SpecialistError(
            f"{source} have the architecture {architecture!r} by their card, which is not in timm's "
            "registry; hubs, paths and addresses are not opened for a card"
        )
    with torch.device("meta"), _without_drawing():
        outline = create_network(architecture, classes, image_size=image_size)
    _check_fit(outline, state, source=source)
    own = outline.state_dict()
    derived = {name: tensor for name, tensor in outline.named_buffers() if name not in own}
    if not derived:
        fitting = {name: state[name].to(tensor.dtype) for name, tensor in own.items()}
        outline.load_state_dict(fitting, assign=True)
        return outline
    size = sum(tensor.numel() * tensor.element_size() for tensor in derived.values())
    if size > _MAX_DERIVED:
        raise SpecialistError(
            f"{architecture} at {image_size} px needs {size / 2**30:.1f} GiB beside its weights; "
            "train a specialist for a smaller image size"
        )
    network = create_network(architecture, classes, image_size=image_size)
    load_state(network, state, source=source)
    return network


@contextmanager
def _without_drawing() -> Generator[None]:
    """Draw no first weights: an outline has none, and drawing them there loads torch's whole compiler."""
    from torch.overrides import TorchFunctionMode

    class WithoutDrawing(TorchFunctionMode):
        def __torch_function__(
            self,
            func: Callable[..., object],
            types: object,
            args: tuple[object, ...] = (),
            kwargs: Mapping[str, object] | None = None,
        ) -> object:
            if getattr(func, "__name__", "") in ("normal_", "uniform_"):
                return args[0] if args else (kwargs or {})["tensor"]
            return func(*args, **(kwargs or {}))

    with WithoutDrawing():
        yield


def registry_name(network: nn.Module, given: str) -> str:
    """Name a network in timm's registry, also where it was given by the address of a hub.

    Raises:
        SpecialistError: timm does not say which architecture it is.
    """
    config = getattr(network, "pretrained_cfg", None) or {}
    name = given if _NAME.fullmatch(given) else str(config.get("architecture", ""))
    if not _NAME.fullmatch(name):
        raise SpecialistError(f"timm does not say which architecture {given!r} is; give its own name")
    return name


def create_network(
    architecture: str,
    classes: int,
    *,
    pretrained: bool = False,
    dropout: float = 0.0,
    image_size: int | None = None,
) -> nn.Module:
    """Build a timm network in evaluation mode.

    Args:
        architecture: a name of timm's registry, or ``hf-hub:OWNER/NAME``.
        classes: width of the classifier.
        pretrained: whether timm fetches weights from its hub.
        dropout: before the classifier.
        image_size: for architectures that are built for one size (vision transformers).

    Raises:
        SpecialistError: timm has no such architecture, or its weights cannot be fetched.
    """
    timm = import_timm()

    if architecture == "alexnet":
        raise SpecialistError(
            "'alexnet' is torchvision's, not timm's, and is not supported; use 'vgg11' or 'resnet18', say"
        )
    if not architecture.startswith(("hf-hub:", "hf_hub:", "local-dir:")) and not timm.is_model(
        architecture.split(".")[0]
    ):
        raise SpecialistError(
            f"timm has no architecture {architecture!r}; see timm.list_models('*{architecture[:6]}*')"
        )
    options: dict[str, object] = {"num_classes": classes}
    if dropout:
        options["drop_rate"] = dropout
    try:
        network = _create_sized(architecture, pretrained, image_size, options)
    except Exception as error:  # timm and the hub client raise anything; the caller gets one type
        raise SpecialistError(
            f"timm cannot build {architecture!r}: {type(error).__name__}: {error}"
        ) from error
    return network.eval()


def _create_sized(
    architecture: str, pretrained: bool, image_size: int | None, options: Mapping[str, object]
) -> nn.Module:
    timm = import_timm()

    if image_size is None:
        return timm.create_model(architecture, pretrained=pretrained, **options)
    try:
        return timm.create_model(architecture, pretrained=pretrained, img_size=image_size, **options)
    except TypeError as error:
        # Convolutional architectures take any size and refuse the argument.
        if "img_size" not in str(error):
            raise
        return timm.create_model(architecture, pretrained=pretrained, **options)


def classifier_of(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return the classifier layer and its name in the state dict.

    Raises:
        SpecialistError: the architecture has not exactly one linear (or 1 × 1 convolution) classifier.
    """
    layer = _classifier(network)
    for name, module in network.named_modules():
        if module is layer:
            return name, layer
    raise _no_classifier(network, layer)


def _classifier(network: nn.Module) -> nn.Linear | nn.Conv2d:
    """The layer alone, without looking through all modules for its name."""
    from torch import nn

    layer = getattr(network, "get_classifier", lambda: None)()
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        # Some architectures (SAM's) return the pooling head that wraps the layer.
        layer = getattr(layer, "fc", layer)
    if isinstance(layer, nn.Linear | nn.Conv2d):
        return layer
    raise _no_classifier(network, layer)


def _no_classifier(network: nn.Module, layer: object) -> SpecialistError:
    return SpecialistError(
        f"{type(network).__name__} has no single linear classifier (found {type(layer).__name__}); "
        "choose an architecture with one"
    )


def reset_classifier(network: nn.Module) -> None:
    """Set the classifier to zero, so that training starts from equal probabilities.

    Some timm heads start with a spread of 1/sqrt(classes), which swamps pretrained features.
    """
    from torch import nn

    _, layer = classifier_of(network)
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to its device, in evaluation mode and the memory format that is fastest there."""
    import torch

    network = network.eval().to(device)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def trunk(network: nn.Module, batch: Tensor) -> Tensor:
    """Return the pooled embeddings before the classifier, (n, d)."""
    timm_network = cast(Any, network)
    return timm_network.forward_head(timm_network.forward_features(batch), pre_logits=True).flatten(1)


def head(network: nn.Module, features: Tensor) -> Tensor:
    """Return the logits (n, classes) of embeddings (n, d)."""
    from torch import nn

    layer = _classifier(network)
    if isinstance(layer, nn.Conv2d):
        return layer(features[:, :, None, None]).flatten(1)
    return layer(features)


def check_split(network: nn.Module, size: int) -> int:
    """Make sure that head(trunk(x)) is the network, and return the embedding's width.

    Raises:
        SpecialistError: the architecture computes its logits in another way.
    """
    import torch

    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            batch = torch.linspace(-1, 1, 2 * 3 * size * size).reshape(2, 3, size, size)
            batch = batch.to(next(network.parameters()).device)
            features = trunk(network, batch)
            same = torch.allclose(head(network, features), network(batch), rtol=1e-3, atol=1e-4)
    except (AttributeError, TypeError, RuntimeError, AssertionError) as error:
        raise SpecialistError(
            f"{type(network).__name__} cannot be split into trunk and head at {size} px: {error}"
        ) from error
    finally:
        network.train(was_training)
    if not same:
        raise SpecialistError(
            f"{type(network).__name__} does not compute its logits as classifier(embedding); "
            "choose another architecture"
        )
    return features.shape[1]


def normalise(pixels: Tensor, transform: Transform) -> Tensor:
    """Turn uint8 pixels (n, 3, s, s) into the network's input, float32 and channels last."""
    import torch

    mean = torch.tensor(transform.mean, device=pixels.device).view(1, 3, 1, 1) * 255
    scale = 1 / (torch.tensor(transform.std, device=pixels.device).view(1, 3, 1, 1) * 255)
    return ((pixels.float() - mean) * scale).contiguous(memory_format=torch.channels_last)


def trunk_hash(network: nn.Module, transform: Transform) -> str:
    """Hash everything that decides an embedding: architecture, trunk weights and transform."""
    prefix, _ = classifier_of(network)
    state = {
        name: tensor for name, tensor in network.state_dict().items() if not name.startswith(f"{prefix}.")
    }
    # A field that a later version adds does not change the hash where it is not set.
    told = transform.model_dump_json(exclude=set() if transform.mirrored else {"mirrored"})
    return hashlib.sha256(f"{state_hash(state)}{told}".encode()).hexdigest()


def embedded(network: nn.Module, batch: Tensor, transform: Transform) -> Tensor:
    """Embed pixels, uint8 (n, 3, side, side), as the transform says: float32 (n, d), not normalised."""
    pixels = normalise(batch, transform)
    rows = trunk(network, pixels).float()
    return (rows + trunk(network, pixels.flip(-1)).float()) / 2 if transform.mirrored else rows


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Hash a state dict: names, shapes, types and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.flatten().numpy().tobytes())
    return digest.hexdigest()


def load_state(
    network: nn.Module, state: Mapping[str, Tensor], *, source: str, skip: Sequence[str] = ()
) -> None:
    """Load a state dict that must fit completely.

    Args:
        network: what it is loaded into.
        state: tensors by name.
        source: named in errors.
        skip: prefixes of names that the state may lack or hold in another shape; they are left alone.

    Raises:
        SpecialistError: a tensor is missing, unknown or of another shape.
    """
    import torch

    wanted, given = _check_fit(network, state, source=source, skip=skip)
    own = network.state_dict()
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(given[name])


def _check_fit(
    network: nn.Module, state: Mapping[str, Tensor], *, source: str, skip: Sequence[str] = ()
) -> tuple[set[str], dict[str, Tensor]]:
    own = network.state_dict()
    skipped = tuple(f"{prefix}." for prefix in skip)
    wanted = {name for name in own if not (skipped and name.startswith(skipped))}
    given = {name: tensor for name, tensor in state.items() if not (skipped and name.startswith(skipped))}
    missing = sorted(wanted - given.keys())
    unknown = sorted(given.keys() - own.keys())
    reshaped = sorted(name for name in wanted & given.keys() if own[name].shape != given[name].shape)
    if missing or unknown or reshaped:
        found = [
            f"{kind} {names[:3]}"
            for kind, names in (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
            if names
        ]
        raise SpecialistError(f"{source} does not fit {type(network).__name__}: {'; '.join(found)}")
    return wanted, given
