import io

import pytest
from gsco.case import Conflict, Diagnosis, Evidence, GateReport, Missing, Opinion, SimilarCase, TaskKind
from PIL import Image


@pytest.fixture(scope="session")
def thumbnail() -> bytes:
    """A small JPEG."""
    buffer = io.BytesIO()
    Image.new("L", (56, 56), 90).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def diagnosis() -> Diagnosis:
    """A case that everybody sees otherwise, with texts that are written to break out of a page."""
    hostile = '<script>alert("x")</script> & ]]> {{ 7 * 7 }} </style>'
    return Diagnosis(
        case_id="img-0123456789ab",
        task="shade",
        kind=TaskKind.DIAGNOSIS,
        label="dark",
        labels=("dark",),
        probabilities={"dark": 0.4, "bright": 0.35, "neither": 0.2495, "both": 0.0005},
        confidence=0.4,
        abstained=True,
        reasons=("The confidence 0.40 is below this task's limit of 0.50.", hostile),
        conflict=Conflict(
            generalist_against_panel=True, specialists_disagree=True, panel_share=0.5, similar_share=0.25
        ),
        evidence=Evidence(
            gate=GateReport(task="shade", familiar=False),
            opinions=(
                Opinion(
                    specialist="one",
                    architecture="test_resnet",
                    labels=("dark",),
                    probabilities={"dark": 0.9, "bright": 0.1},
                    reliability=0.8,
                ),
                Opinion(
                    specialist="two",
                    architecture="test_vit",
                    labels=("bright",),
                    probabilities={"dark": 0.2, "bright": 0.8},
                ),
                Opinion(specialist="writer", architecture="encoder-decoder", text=hostile),
            ),
            similar_cases=tuple(
                SimilarCase(
                    id=f"case-{number}",
                    sha256="0" * 64,
                    task="shade",
                    labels=("dark",) if number < 3 else ("bright",),
                    similarity=0.9 - number / 100,
                    encoder="shade/own",
                    source=f"{hostile}/{number}.png",
                    report=hostile,
                )
                for number in range(12)
            ),
            missing=(Missing(source="specialist:three", reason="the weights are damaged"),),
        ),
        generalist="tiny",
        profile="paper@00000000",
        versions={"gsco": "0.1.0"},
    )
