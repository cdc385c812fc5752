import asyncio

import pytest
from gsco.case import Missing, Opinion, SimilarCase, Task
from gsco.images import ImageStore
from gsco.models.specialist.panel import Panel
from gsco.tasks import TaskBook
from gsco.tools.retrieval import Retrieval
from gsco.tools.specialists import Specialists
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.toolbox import Toolbox


@pytest.fixture
def images(tmp_path):
    return ImageStore(tmp_path / "images")


@pytest.fixture
def toolbox(images, cards, specialist_folders, bank):
    panels = {"shade": Panel.load("shade", [specialist_folders])}
    specialists = Specialists(panels, images)
    retrieval = Retrieval(lambda: EmbeddedStore(bank, readonly=True), specialists)
    yield Toolbox(TaskBook(cards), images, specialists, retrieval, task="shade", group="shade-7")
    retrieval.close()
    specialists.close()


@pytest.fixture
def tools(toolbox):
    return {tool.name: tool for tool in toolbox.tools()}


def call(tool, **arguments):
    """What a model's tool call leads to: a ToolMessage."""
    request = {"name": tool.name, "args": arguments, "id": "call-1", "type": "tool_call"}
    return asyncio.run(tool.ainvoke(request))


def test_classify_gives_text_and_records(tools, images, pictures):
    ref = images.put(pictures.shade("dark", 1))
    message = call(tools["classify"], image=ref.id)
    assert all(isinstance(opinion, Opinion) for opinion in message.artifact)
    assert [opinion.specialist for opinion in message.artifact] == ["one", "own", "two"]
    assert message.content.count("reliability 80%") == 3
    assert message.artifact[0].labels[0] in message.content.splitlines()[0]


def test_classify_asks_only_whom_it_is_told(tools, images, pictures):
    ref = images.put(pictures.shade("dark", 1))
    message = call(tools["classify"], image=ref.id, task="shade", specialists=["own", "nobody"])
    opinion, missing = message.artifact
    assert opinion.specialist == "own" and isinstance(missing, Missing)
    assert "nobody: no opinion" in message.content


def test_retrieve_cases_finds_others_of_other_patients(tools, images, pictures):
    ref = images.put(pictures.shade("dark", 7))
    message = call(tools["retrieve_cases"], image=ref.id, k=30)
    assert len(message.artifact) == 28 and all(isinstance(case, SimilarCase) for case in message.artifact)
    assert ref.sha256 not in {case.sha256 for case in message.artifact}
    assert message.content.splitlines()[0].startswith("1. dark, similarity 0.9")


def test_list_tasks(tools):
    message = call(tools["list_tasks"])
    assert "shade: grey square (dark, bright)" in message.content
    assert all(isinstance(card, Task) for card in message.artifact)


@pytest.mark.parametrize(
    "image", ["/etc/passwd", "https://example.org/x.png", "img-../../x", "file:///x", ""]
)
@pytest.mark.parametrize("name", ["classify", "retrieve_cases"])
def test_a_path_or_an_address_is_refused(tools, name, image):
    message = call(tools[name], image=image)
    assert message.status == "error"
    assert (
        "never a path" in message.content and image not in ("",) and image not in message.content
    ) or not image


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("classify", {"image": "img-0123456789ab"}, "no image in the store"),
        ("classify", {"image": "KNOWN", "task": "shades"}, "task: Input should be 'shade'"),
        ("classify", {"image": "KNOWN", "specialists": ["nobody"]}, "no specialist 'nobody'"),
        ("classify", {"image": "KNOWN", "task": "vqa_rad"}, "task: Input should be 'shade'"),
        ("classify", {"image": "KNOWN", "path": "/x"}, "wrong arguments"),
        ("retrieve_cases", {"image": "KNOWN", "k": 1000}, "wrong arguments: k"),
        ("retrieve_cases", {"image": "KNOWN", "encoder": "other"}, "no specialist embeds"),
    ],
)
def test_errors_are_readable(tools, images, pictures, name, arguments, words):
    ref = images.put(pictures.shade("dark", 1))
    arguments = {key: ref.id if value == "KNOWN" else value for key, value in arguments.items()}
    message = call(tools[name], **arguments)
    assert message.status == "error" and words in message.content
    assert message.artifact is None


def test_the_schema_speaks_of_ids_and_of_no_path(tools):
    schema = tools["classify"].tool_call_schema.model_json_schema()
    assert set(schema["properties"]) == {"image", "task", "specialists"}
    assert "required" not in schema
    assert schema["properties"]["image"]["description"].startswith("Id of an image")


def test_a_call_without_an_image_is_about_the_latest(toolbox, tools, images, pictures):
    assert "name the image" in call(tools["classify"]).content
    ref = images.put(pictures.shade("dark", 1))
    toolbox._image = ref
    named, unnamed = call(tools["classify"], image=ref.id), call(tools["classify"])
    assert named.content == unnamed.content and unnamed.status == "success"


def test_the_schema_tells_which_tasks_have_specialists(tools):
    task = tools["classify"].tool_call_schema.model_json_schema()["properties"]["task"]
    assert task["description"] == "shade: grey square (dark, bright)"
    assert "shade" in str(task) and "vqa_rad" not in str(task)


def test_a_store_that_is_gone_is_readable(images, cards, specialist_folders, pictures, tmp_path):
    panels = {"shade": Panel.load("shade", [specialist_folders])}
    specialists = Specialists(panels, images)
    retrieval = Retrieval(lambda: EmbeddedStore(tmp_path / "gone.sqlite", readonly=True), specialists)
    tools = {tool.name: tool for tool in Toolbox(TaskBook(cards), images, specialists, retrieval).tools()}
    ref = images.put(pictures.shade("dark", 1))
    message = call(tools["retrieve_cases"], image=ref.id, task="shade")
    assert message.status == "error" and "no case store" in message.content
    assert "task: Field required" in call(tools["classify"], image=ref.id).content
    specialists.close()
