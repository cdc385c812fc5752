"""The usual questions about a case, as prompts that an MCP client offers to its user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigurationError


@dataclass(frozen=True)
class CasePrompt:
    """One question.

    Attributes:
        title: as a client lists it.
        text: with ``{image}`` and the other arguments.
        arguments: name and description of each; all are needed.
    """

    title: str
    text: str
    arguments: Mapping[str, str]

    def filled(self, given: Mapping[str, str]) -> str:
        """Return the question about the images that are given.

        Raises:
            ConfigurationError: an argument is missing.
        """
        if missing := [name for name in self.arguments if not given.get(name)]:
            raise ConfigurationError(f"the prompt needs: {', '.join(missing)}")
        return self.text.format(**{name: given[name] for name in self.arguments})


_IMAGE = {"image": "Id of an image, or the path of a file that add_image takes."}
_TELL = "Say how sure the decision is and who disagrees. It is research software and no medical device."
PROMPTS: Mapping[str, CasePrompt] = {
    "diagnose": CasePrompt(
        "Diagnose an image",
        "What does the image {image} show? Add it with add_image if it is a file, then call diagnose. "
        + _TELL,
        _IMAGE,
    ),
    "evidence": CasePrompt(
        "Show the evidence",
        "What do the specialists say about the image {image}, and which known cases are most similar? "
        "Call classify and retrieve_cases, and state their numbers as they are. " + _TELL,
        _IMAGE,
    ),
    "compare": CasePrompt(
        "Compare two images",
        "Compare the images {first} and {second}: call diagnose for each, and put the two records side by "
        "side. " + _TELL,
        {"first": "Id of the first image.", "second": "Id of the second image."},
    ),
    "report": CasePrompt(
        "Write a short report",
        "Call diagnose for the image {image} and write a report of two parts, Findings and Impression, with "
        "nothing in it that the record does not say. " + _TELL,
        _IMAGE,
    ),
}
