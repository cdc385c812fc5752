"""How likely each option is as the whole answer, with everything that prompts share computed once.

A request is laid out as a tree in one sequence: what several requests about the same images have in
common, behind it the rest of each prompt, behind that the prompt's options. A mask lets every token see
its own branch only, and positions count along the branch, so that one forward pass gives what one pass
per option would give. The arms of an experiment ask about one image with different hints: there the
image and the question are computed once for all of them.

The score of an option is the sum of the log-probabilities of all its tokens *and* of the end of the
turn: the model's likelihood that the answer is exactly this string. Long options are not favoured or
punished beyond what the model itself believes; an average per token would no longer be a likelihood.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# On a CPU the activations of a larger batch fall out of the cache: 2048 was the best of 512 … 16384.
_TOKENS_AT_ONCE = {"cpu": 2048}
_TOKENS_AT_ONCE_ELSEWHERE = 16_384
_LONGEST_TREE = 1536


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """A prompt as a model reads it."""

    ids: tuple[int, ...]
    """Token ids; each image stands as a run of placeholder tokens."""
    features: torch.Tensor | None = None
    """Embeddings (n, d) that replace the placeholder tokens, in order."""
    images: tuple[str, ...] = ()
    """Ids of the images that the features were made from."""
    inputs: Mapping[str, torch.Tensor] | None = None
    """All that the model's own processor made of the prompt, where it is used (see ``processing``)."""


@dataclass(frozen=True, eq=False)
class OptionPrompt:
    """A prompt and the token ids of its options, each ending in the end-of-turn token."""

    prompt: EncodedPrompt
    options: tuple[tuple[int, ...], ...]

    @property
    def own_length(self) -> int:
        """Tokens of the options that are read; the last of each is only predicted."""
        return sum(len(option) - 1 for option in self.options)


@dataclass(frozen=True, eq=False)
class _Tree:
    """Requests (by index) that share the first ``shared`` tokens of their prompts and all images."""

    members: tuple[int, ...]
    shared: int
    length: int


def score_options(
    model: PreTrainedModel, requests: Sequence[OptionPrompt], placeholder: int
) -> list[list[float]]:
    """Log-likelihood of every option of every request.

    Args:
        model: a transformers image-text-to-text model with plain causal attention.
        requests: any number; they are packed into batches of similar length.
        placeholder: token id that ``EncodedPrompt.features`` replace.

    Returns:
        Per request one natural log-probability per option, computed in float32 and summed in float64.
    """
    scores: list[list[float]] = [[] for _ in requests]
    limit = _TOKENS_AT_ONCE.get(model.device.type, _TOKENS_AT_ONCE_ELSEWHERE)
    for trees in _batches(_trees(requests, placeholder), limit):
        for i, result in _score_batch(model, requests, trees, placeholder):
            scores[i] = result
    return scores


def embed(
    model: PreTrainedModel, ids: torch.Tensor, prompts: Sequence[EncodedPrompt], placeholder: int
) -> torch.Tensor:
    """Input embeddings (n, length, d) of padded ids (n, length), with image features in their places."""
    embeddings = model.get_input_embeddings()(ids)
    features = [prompt.features for prompt in prompts if prompt.features is not None]
    if features:
        embeddings[ids == placeholder] = torch.cat(features).to(embeddings)
    return embeddings


def _trees(requests: Sequence[OptionPrompt], placeholder: int) -> list[_Tree]:
    """Join requests about the same images where their prompts begin alike up to behind the images."""
    about: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    trees: list[_Tree] = []
    for i, request in enumerate(requests):
        if request.prompt.images:
            about[request.prompt.images].append(i)
        else:
            trees.append(_tree(requests, (i,), 0))
    for members in about.values():
        while members:
            first = requests[members[0]].prompt.ids
            behind_images = max(i for i, token in enumerate(first) if token == placeholder) + 1
            joined, shared = [members[0]], len(first) - 1
            for i in members[1:]:
                common = min(shared, _common(first, requests[i].prompt.ids))
                if common >= behind_images and _tree(requests, (*joined, i), common).length <= _LONGEST_TREE:
                    joined.append(i)
                    shared = common
            trees.append(_tree(requests, tuple(joined), shared if len(joined) > 1 else 0))
            members = [i for i in members if i not in joined]
    return trees


def _tree(requests: Sequence[OptionPrompt], members: tuple[int, ...], shared: int) -> _Tree:
    own = sum(len(requests[i].prompt.ids) - shared + requests[i].own_length for i in members)
    return _Tree(members, shared, shared + own)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning; at least one token of each is left to be its own."""
    pairs = zip(one[:-1], other[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _batches(trees: Sequence[_Tree], limit: int) -> Iterator[list[_Tree]]:
    """Trees of similar length together, each batch within the token limit where one tree is."""
    batch: list[_Tree] = []
    for tree in sorted(trees, key=lambda tree: tree.length):
        if batch and (len(batch) + 1) * tree.length > limit:
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch


def _score_batch(
    model: PreTrainedModel, requests: Sequence[OptionPrompt], trees: Sequence[_Tree], placeholder: int
) -> Iterator[tuple[int, list[float]]]:
    layout = _Layout(requests, trees)
    device = model.device
    first = [requests[tree.members[0]].prompt for tree in trees]
    hidden = model.base_model(
        inputs_embeds=embed(model, layout.ids.to(device), first, placeholder),
        attention_mask=_mask(layout.branches.to(device), layout.leaves.to(device), model.dtype),
        position_ids=layout.positions.to(device),
        use_cache=False,
    ).last_hidden_state
    rows, columns, targets, owners = torch.tensor(layout.predicted, device=device).unbind(1)
    head: Any = model.get_output_embeddings()
    logits = head(hidden[rows, columns]).float()
    chosen = logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=1)
    sums = torch.zeros(layout.leaf, dtype=torch.float64).index_add_(0, owners.cpu(), chosen.double().cpu())
    values = iter(sums.tolist())
    for tree in trees:
        for i in tree.members:
            yield i, [next(values) for _ in requests[i].options]


class _Token(NamedTuple):
    id: int
    position: int
    branch: int
    leaf: int


class _Layout:
    """Trees as the rows of one padded batch, and where each option's tokens are predicted.

    ``branches`` is 0 on what a tree shares, 1… on its prompts, -1 on padding; ``leaves`` is 0 outside
    options. ``predicted`` holds (row, column, target token, option) for each token of each option.
    """

    def __init__(self, requests: Sequence[OptionPrompt], trees: Sequence[_Tree]) -> None:
        shape = (len(trees), max(tree.length for tree in trees))
        self.ids = torch.zeros(shape, dtype=torch.long)
        self.positions = torch.zeros(shape, dtype=torch.long)
        self.branches = torch.full(shape, -1, dtype=torch.long)
        self.leaves = torch.zeros(shape, dtype=torch.long)
        self.predicted: list[tuple[int, int, int, int]] = []
        self.leaf = 0
        for row, tree in enumerate(trees):
            common = requests[tree.members[0]].prompt.ids[: tree.shared]
            line = [_Token(token, place, 0, 0) for place, token in enumerate(common)]
            for branch, i in enumerate(tree.members, start=1):
                self._grow(line, row, branch, requests[i], tree.shared)
            ids, positions, branches, leaves = torch.tensor(line).unbind(1)
            self.ids[row, : len(line)] = ids
            self.positions[row, : len(line)] = positions
            self.branches[row, : len(line)] = branches
            self.leaves[row, : len(line)] = leaves

    def _grow(self, line: list[_Token], row: int, branch: int, request: OptionPrompt, shared: int) -> None:
        """Append a prompt's own part and its options."""
        prompt = request.prompt.ids
        line += [_Token(prompt[place], place, branch, 0) for place in range(shared, len(prompt))]
        end = len(line) - 1
        for option in request.options:
            at = [end, *range(len(line), len(line) + len(option) - 1)]
            self.predicted += [
                (row, column, token, self.leaf) for column, token in zip(at, option, strict=True)
            ]
            self.leaf += 1
            line += [_Token(token, len(prompt) + i, branch, self.leaf) for i, token in enumerate(option[:-1])]


def _mask(branches: torch.Tensor, leaves: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask (n, 1, length, length): a token sees what lies before it on its own branch."""
    length = branches.shape[1]
    query, key = branches[:, :, None], branches[:, None, :]
    leaf, other = leaves[:, :, None], leaves[:, None, :]
    seen = ((key == 0) | (key == query)) & ((other == 0) | (other == leaf)) & (key >= 0)
    seen &= torch.ones(length, length, dtype=torch.bool, device=seen.device).tril()
    # Padding sees itself only: a row that sees nothing would be NaN.
    seen |= torch.eye(length, dtype=torch.bool, device=seen.device)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
