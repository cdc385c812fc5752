from pathlib import Path
from typing import Any

import pytest
from gsco.errors import ConfigurationError
from gsco.models.generalist.training.config import GeneralistTraining, Stage, load_config
from gsco.models.mini import bundled

MINIMAL = 'out = "o"\nwork = "w"\n[[sources]]\nfolder = "toy"\ntask = "toy"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_the_bundled_recipe_reads() -> None:
    config = load_config(bundled("recipes") / "generalist.toml", out=Path("elsewhere"))
    assert [source.name for source in config.sources] == ["chest_xray", "brain_mri", "busi", "lung_histology"]
    assert config.out == Path("elsewhere")
    assert config.architecture.image_tokens == 36


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("out = ", "TOML"),
        ('out = "o"', "work"),
        (MINIMAL + '[[sources]]\nfolder = "x"\ntask = "toy"\n', "each task"),
        (MINIMAL + "[vision]\nepoch = 3\n", "vision.epoch"),
        (MINIMAL + "[architecture]\nimage_size = 100\n", "image_size"),
        (MINIMAL + "[language.families]\nplane = 1.0\n", "plane"),
        (MINIMAL + "[evidence]\nrenamed = 1.5\n", "evidence.renamed"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        load_config(tmp_path / "none.toml")


def test_folders_may_hold_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_DATA", "/somewhere")
    assert load_config(write(tmp_path, 'data = "${TOY_DATA}/x"\n' + MINIMAL)).data == Path("/somewhere/x")


def changed(config: GeneralistTraining, section: str, **values: Any) -> GeneralistTraining:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def test_a_fingerprint_covers_what_its_stage_depends_on(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    later, sizes = changed(config, "language", lr=1e-5), changed(config, "architecture", layers=9)
    tower, taught = changed(config, "vision", epochs=99), changed(config, "teacher", epochs=99)
    last = config.model_copy(update={"joint": Stage(prompts=5)})
    moved = config.model_copy(update={"work": Path("other"), "threads": 7, "device": "cpu", "workers": 3})
    decoder = (taught, tower, later, sizes)
    expected = {
        "teacher": (taught,),
        "vision": (taught, tower),
        "language": decoder,
        "joint": (*decoder, last),
    }
    for stage, differs in expected.items():
        for other in (later, sizes, tower, taught, last, moved):
            assert (other.fingerprint(stage) != config.fingerprint(stage)) == any(other is d for d in differs)


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = load_config(write(tmp_path, 'device = "cuda"\n' + MINIMAL))
    with pytest.raises(ConfigurationError, match="no GPU"):
        _ = config.place
    assert load_config(write(tmp_path, MINIMAL)).place.type == "cpu"
