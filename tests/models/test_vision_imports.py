from __future__ import annotations

import subprocess
import sys

import pytest

TIMM = "from gsco.models.vision_imports import import_timm; import_timm();"
COMPILER = "import sys; print('torch._inductor' in sys.modules, 'sympy' in sys.modules);"


def run(code: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_timm_comes_without_the_compiler():
    assert run(TIMM + COMPILER) == ["False", "False"]


def test_a_specialist_is_built_without_the_compiler():
    built = "from gsco.models.specialist.network import create_network; create_network('resnet10t', 2);"
    assert run(built + COMPILER) == ["False", "False"]


@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "regnetx_002", "mobilenetv4_conv_small"])
def test_a_specialist_is_loaded_without_the_compiler(architecture):
    loaded = (
        "from gsco.models.specialist.network import create_network, network_of_weights;"
        f"state = create_network('{architecture}', 2).state_dict();"
        f"network = network_of_weights('{architecture}', 2, state, source='test');"
        "network(__import__('torch').ones(1, 3, 64, 64));"
    )
    assert run(loaded + COMPILER + "print('torch._dynamo' in sys.modules)") == ["False", "False", "False"]


def test_the_compiler_is_there_where_it_is_used():
    used = (
        "import torch, torchvision;"
        "from torchvision.ops import roi_align;"
        "x = roi_align(torch.ones(1, 1, 8, 8), [torch.tensor([[0., 0., 4., 4.]])], 2);"
        "import torch._dynamo.utils as utils;"
        "print(tuple(x.shape) == (1, 1, 2, 2), utils.is_compile_supported('cpu') in (True, False));"
        "compiled = torch.compile(lambda x: x + 1, backend='eager');"
        "print(torch.compiler.disable.__module__, compiled(torch.ones(1)).item())"
    )
    assert run(TIMM + used) == ["True", "True", "torch.compiler", "2.0"]


def test_what_timm_excludes_is_excluded_when_it_is_called():
    from gsco.models.vision_imports import _excluded_when_called

    made: list[object] = []

    def disable(function, *given, **options):
        made.append(function)
        return lambda *args: ("excluded", function(*args))

    @_excluded_when_called(disable)
    def double(value: int) -> int:
        """Twice."""
        return 2 * value

    assert not made and double.__doc__ == "Twice."
    assert [double(2), double(3)] == [("excluded", 4), ("excluded", 6)] and len(made) == 1
