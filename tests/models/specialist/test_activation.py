import numpy as np
import pytest
import timm
from gsco.errors import SpecialistError
from gsco.images import read_image
from gsco.models.mini import bundled
from gsco.models.mini.samples import samples
from gsco.models.specialist.activation import activation_map
from gsco.models.specialist.card import Transform
from gsco.models.specialist.specialist import TimmSpecialist
from PIL import Image


def of(task: str, name: str) -> TimmSpecialist:
    return TimmSpecialist.load(bundled("specialists") / task / name)


@pytest.mark.parametrize("name", ["lite0", "mobilenet", "probe", "regnet"])
def test_every_bundled_architecture_has_a_map(name):
    image = read_image(samples("brain_mri")[0].path)
    heat = activation_map(of("brain_mri", name), image, "glioma")
    assert heat.shape == (image.height, image.width) and heat.dtype == np.float32
    assert heat.min() >= 0 and heat.max() <= 1 and heat.std() > 0.05


def test_hiding_what_is_hot_costs_more_than_hiding_what_is_cold():
    differences = []
    for task in ("brain_mri", "busi", "lung_histology", "chest_xray"):
        specialist = of(task, "lite0")
        for sample in samples(task):
            image = read_image(sample.path)
            heat = activation_map(specialist, image, sample.label)
            low, high = np.quantile(heat, [0.25, 0.75])
            pictures = [image, hidden(image, heat >= high), hidden(image, heat <= low)]
            logits = specialist.logits(specialist.features(pictures))
            margin = (logits - logits.mean(1, keepdims=True))[:, specialist.card.labels.index(sample.label)]
            differences.append((margin[0] - margin[1], margin[0] - margin[2]))
    hot, cold = np.mean(differences, axis=0)
    assert hot > 0.5 and abs(cold) < 0.2, (hot, cold)
    assert np.mean([one > other for one, other in differences]) > 0.8


def hidden(image: Image.Image, mask: np.ndarray) -> Image.Image:
    pixels = np.asarray(image.convert("RGB")).copy()
    pixels[mask] = pixels.mean((0, 1))
    return Image.fromarray(pixels)


def test_the_specialist_is_left_as_it_was():
    specialist = of("busi", "regnet")
    image = read_image(samples("busi")[0].path)
    before = specialist.predict([image])
    flags = [parameter.requires_grad for parameter in specialist.network.parameters()]
    activation_map(specialist, image, "benign")
    assert [parameter.requires_grad for parameter in specialist.network.parameters()] == flags
    assert all(parameter.grad is None for parameter in specialist.network.parameters())
    assert not specialist.network.training
    assert (specialist.predict([image]) == before).all()


def test_heat_on_a_canvas_lies_where_the_image_is(make_image):
    network = timm.create_model("test_efficientnet")
    card = {"task": "x", "labels": ["a", "b"]}
    small = TimmSpecialist.from_timm("test_efficientnet", **card, transform=Transform(size=64, canvas=160))
    small.network.load_state_dict(
        {name: value for name, value in network.state_dict().items() if not name.startswith("classifier")},
        strict=False,
    )
    assert activation_map(small, make_image("RGB", (100, 70)), "a").shape == (70, 100)


@pytest.mark.parametrize(
    "architecture", ["test_vit", "test_convnext", "test_vit2", "swin_tiny_patch4_window7_224"]
)
def test_other_families_have_a_map(architecture, make_image):
    specialist = TimmSpecialist.from_timm(architecture, ["a", "b"], task="x")
    heat = np.stack([activation_map(specialist, make_image("RGB", (90, 60)), label) for label in "ab"])
    assert heat.max() > 0.9, "one of two opposite labels is spoken for"


def test_a_label_that_it_does_not_know():
    with pytest.raises(SpecialistError, match="no label 'flu'; its labels: benign, malignant, normal"):
        activation_map(of("busi", "lite0"), Image.new("L", (50, 50)), "flu")


def test_a_writer_of_reports_has_no_map(report_folder):
    writer = TimmSpecialist.load(report_folder / "report" / "writer")
    with pytest.raises(SpecialistError, match="it drafts reports"):
        activation_map(writer, Image.new("L", (50, 50)), "flu")
