"""Settings, read from the environment (prefix ``GSCO_``) or a ``.env`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

EvidencePolicy = Literal["require", "prefer", "off"]
ReviewReason = Literal["low_confidence", "conflict", "out_of_distribution", "always"]


class Settings(BaseSettings):
    """Where things are and what policy holds. Every field is an environment variable.

    Raises:
        pydantic.ValidationError: if a variable does not fit its field.
    """

    model_config = SettingsConfigDict(
        env_prefix="GSCO_", env_file=".env", env_file_encoding="utf-8-sig", extra="ignore", frozen=True
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".cache" / "gsco")
    """Folder for images, stores and run state."""
    images: Path | None = None
    """Folder for images alone, where several servers share it; else it lies in ``home``."""
    tasks: Path | None = None
    """Folder with the user's own task cards (``*.toml``), added to the built-in ones."""
    datasets: Path | None = None
    """Folder with data sets, one sub-folder each, in which evaluations look for a set by its name."""
    specialists: Path | None = None
    """Folder with the user's own specialists, added to the bundled ones."""
    case_store: str = ""
    """Address of the case store: a folder for the embedded one, or ``weaviate://HOST:PORT`` with options;
    empty for the bundled bank."""
    case_store_api_key: SecretStr = SecretStr("")
    """Key of the case store's server, where it asks for one; it never stands in the address."""
    generalist_url: str = ""
    """Base URL of an OpenAI-compatible server (vLLM: ``http://host:8000/v1``)."""
    generalist_model: str = ""
    """Model name at the server, or folder / hub id for the in-process runtime; empty: bundled mini."""
    generalist_api_key: SecretStr = SecretStr("")
    """Key of the generalist's server, where it asks for one."""
    generalist_mode: Literal["auto", "strings", "letters", "decode"] = "auto"
    """How a served generalist is asked to choose; ``auto`` takes what suits the model and the server."""
    generalist_omit: Annotated[frozenset[str], NoDecode] = frozenset()
    """Request parameters that a hosted generalist does not take, with commas: ``temperature``, ``system``, …
    What it refuses is left out by itself after the first refusal; this saves that request."""
    vllm_python: Path | None = None
    """Interpreter of the environment that has vLLM, for ``gsco serve generalist``."""
    profile: str = "paper"
    """Prompt profile. ``paper`` is the published wording, and with the bundled generalist the better one on
    validation images; ``calibrated`` adds probabilities, reliabilities and similarities; ``exemplars`` adds
    the images of similar cases, for a generalist that takes several images."""
    neighbours: int = Field(default=10, ge=0, le=1000)
    """Similar cases per query (the paper's k is 10)."""
    moed: EvidencePolicy = "prefer"
    """Whether specialists are required, used where possible, or off."""
    rad: EvidencePolicy = "prefer"
    """The same for case retrieval."""
    gate: Literal["refuse", "warn", "off"] = "refuse"
    """What happens to an image that is not of the task's modality."""
    decision: Literal["auto", "fused", "adaptive", "generalist"] = "auto"
    """What makes the decision: the rule that was fitted for the task (``auto``), the pool of all sources
    (``fused``), the pool that asks the generalist where it is unsure (``adaptive``), or the generalist's word
    alone, which is the published protocol (``generalist``)."""
    max_error: float | None = Field(default=None, gt=0, lt=1)
    """Of the answers given without a person at most this share may be wrong, certified on held-out cases."""
    max_missed: str = ""
    """Labels of which at most a share may be missed by answers given alone, ``LABEL=SHARE`` with commas."""
    drift: Literal["warn", "suspend", "off"] = "warn"
    """What happens where incoming cases are no longer like those of the fit: it is said, or every case is
    left to a person."""
    review: Annotated[frozenset[ReviewReason], NoDecode] = frozenset()
    """Where a consultation stops until a person has decided: any of the reasons, with commas; or ``off``."""
    conversations: SecretStr = SecretStr("")
    """Where conversations are kept: a file, or ``postgresql://…``; empty: a file in ``home``."""
    tool_calls: Literal["auto", "native", "constrained", "none"] = "auto"
    """How the generalist calls tools; ``none`` runs the fixed protocol on every image before it answers."""
    wording: Literal["auto", "brief", "full"] = "auto"
    """What the generalist is told in a consultation: ``brief`` is what the bundled one is trained on."""
    torch_threads: int = Field(default=0, ge=0)
    """Torch threads; 0 measures once, when the first model loads, how many are worth it. On a busy machine
    that is one: threads that wait for each other are several times slower. ``OMP_NUM_THREADS`` is kept."""
    api_keys: SecretStr = SecretStr("")
    """Keys of the API server, ``NAME:KEY`` with commas: each name is a user with conversations of its own."""
    api_max_bytes: int = Field(default=32 * 2**20, gt=0)
    """Size of a request to the API server."""
    api_timeout: float = Field(default=300.0, gt=0)
    """Seconds after which an answer of the API server is given up."""
    api_concurrency: int = Field(default=64, gt=0)
    """Requests that the API server works on at once."""
    api_user_concurrency: int = Field(default=16, gt=0)
    """Of these, requests of one user; on the page, answers that run for one user."""
    upload_user_bytes: int = Field(default=512 * 2**20, gt=0)
    """Size of all images together that one user has uploaded to the page and not yet sent in a question."""
    upload_total_bytes: int = Field(default=4 * 2**30, gt=0)
    """The same for all users."""
    reviewers: Annotated[frozenset[str], NoDecode] = frozenset()
    """Users of ``api_keys`` who decide on diagnoses under review, each on those that somebody else asked for;
    with commas. Empty: everybody decides on their own."""
    max_image_bytes: int = Field(default=64 * 2**20, gt=0)
    """Size of an image's file."""
    max_image_pixels: int = Field(default=64_000_000, gt=0)
    """Pixels of an image."""
    max_image_side: int = Field(default=32_768, gt=0)
    """Width, and height, of an image; one side may be 64 times as long as the other."""
    decoding_bytes: int = Field(default=768 * 2**20, gt=0)
    """Memory that decoding images takes at once; what does not fit waits."""
    max_message_characters: int = Field(default=50_000, gt=0)
    """Characters of one message, question or context."""
    max_request_characters: int = Field(default=200_000, gt=0)
    """Characters of all texts that one request brings, earlier messages included."""
    generalist_timeout: float = Field(default=300.0, gt=0)
    """Seconds that one answer of a served generalist may take altogether, retries included."""
    shutdown_seconds: float = Field(default=20.0, gt=0)
    """Seconds that running work gets after SIGTERM before it is cut off."""
    seed: int = 0
    """Seed of everything that draws at random."""

    @property
    def floors(self) -> tuple[tuple[str, float], ...]:
        """``max_missed``, read."""
        pairs = [part.rpartition("=") for part in self.max_missed.split(",") if part.strip()]
        return tuple((label.strip(), float(share)) for label, _, share in pairs)

    @field_validator("max_missed")
    @classmethod
    def _shares(cls, value: str) -> str:
        for part in filter(str.strip, value.split(",")):
            label, _, share = part.rpartition("=")
            try:
                fits = bool(label.strip()) and 0 < float(share) < 1
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(f"{part.strip()!r}: write LABEL=SHARE, such as malignant=0.02")
        return value

    @property
    def image_folder(self) -> Path:
        """Where images are kept."""
        return self.images or self.home / "images"

    @field_validator("generalist_omit", "reviewers", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return {name.strip() for name in value.split(",")} - {""} if isinstance(value, str) else value

    @field_validator("review", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = {name.strip() for name in value.split(",")} - {""}
        return names - {"off"} if names != {"off"} else frozenset()
