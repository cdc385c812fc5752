import pytest
from gsco.agent.commands.train import _recipe
from gsco.errors import ConfigurationError


@pytest.mark.parametrize(
    ("given", "architecture", "name"),
    [
        ("timm/resnet18.a1_in1k", "resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("timm/test_resnet", "test_resnet", "test_resnet"),
        ("resnet18.a1_in1k", "resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("hf-hub:timm/resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
    ],
)
def test_architectures_as_the_hub_writes_them(tmp_path, given, architecture, name):
    recipe = _recipe(None, {"data": tmp_path, "task": "skin", "architecture": given})
    assert (recipe.architecture, recipe.name) == (architecture, name)


@pytest.mark.parametrize("given", ["microsoft/resnet-18", "google/vit-base-patch16-224", "a/b/c"])
def test_another_owner_is_an_error_about_the_architecture(tmp_path, given):
    with pytest.raises(ConfigurationError, match=f"architecture: .*hf-hub:{given}"):
        _recipe(None, {"data": tmp_path, "task": "skin", "architecture": given})
