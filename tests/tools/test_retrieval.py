import asyncio

import pytest
from gsco.errors import SpecialistError, StoreError, VectorMismatch
from gsco.images import ImageStore
from gsco.models.specialist.panel import Panel
from gsco.tools.retrieval import FLOOR_LEAST, Retrieval
from gsco.tools.specialists import Specialists
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.protocol import Exclusion


@pytest.fixture
def images(tmp_path):
    return ImageStore(tmp_path / "images")


@pytest.fixture
def specialists(specialist_folders, images):
    panels = {task: Panel.load(task, [specialist_folders]) for task in ("shade", "stripes")}
    made = Specialists(panels, images)
    yield made
    made.close()


@pytest.fixture
def retrieval(bank, specialists):
    made = Retrieval(lambda: EmbeddedStore(bank, readonly=True), specialists)
    yield made
    made.close()


class Counting:
    """A real store that counts its searches."""

    def __init__(self, store):
        self._store = store
        self.queries = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def search(self, vectors, *args, **kwargs):
        self.queries.append(len(vectors))
        return self._store.search(vectors, *args, **kwargs)


def test_similar_cases_come_from_the_task_in_the_retrievers_space(retrieval, images, pictures):
    ref = images.put(pictures.shade("dark", 99))
    found = asyncio.run(retrieval.similar([ref], "shade", 5))
    assert len(found) == 5
    assert {(case.task, case.encoder) for case in found} == {("shade", "shade/own")}
    assert [case.similarity for case in found] == sorted((case.similarity for case in found), reverse=True)
    assert found[0].labels == ("dark",) and found[0].report == "Looks dark."


def test_another_encoder_can_be_asked_for(retrieval, images, pictures):
    ref = images.put(pictures.shade("dark", 99))
    found = asyncio.run(retrieval.similar([ref], "shade", 2, encoder="efficientnet_lite0"))
    assert {case.encoder for case in found} == {"efficientnet_lite0"}
    with pytest.raises(SpecialistError, match="no specialist embeds with encoder 'other'"):
        asyncio.run(retrieval.similar([ref], "shade", 2, encoder="other"))


def test_a_known_case_finds_itself_only_until_it_is_excluded(retrieval, images, pictures):
    ref = images.put(pictures.shade("dark", 3))
    itself = asyncio.run(retrieval.similar([ref], "shade", 1))[0]
    assert itself.sha256 == ref.sha256 and itself.similarity > 0.999
    exclude = Exclusion(sha256s=frozenset([ref.sha256]))
    assert ref.sha256 not in {
        c.sha256 for c in asyncio.run(retrieval.similar([ref], "shade", 30, exclude=exclude))
    }


def test_group_and_near_duplicates_are_excluded(retrieval, images, pictures):
    ref, other = images.put(pictures.shade("dark", 3)), images.put(pictures.shade("bright", 3))
    exclude = Exclusion(groups=frozenset(["shade-3"]))
    found = asyncio.run(retrieval.similar([ref], "shade", 30, exclude=exclude))
    assert len(found) == 28 and not {ref.sha256, other.sha256} & {case.sha256 for case in found}
    near = asyncio.run(retrieval.similar([ref], "shade", 30, exclude=Exclusion(above_similarity=0.999)))
    assert near[0].similarity <= 0.999


def test_several_images_are_merged_by_their_best_similarity(retrieval, images, pictures):
    dark, bright = images.put(pictures.shade("dark", 3)), images.put(pictures.shade("bright", 4))
    found = asyncio.run(retrieval.similar([dark, bright], "shade", 6))
    assert {case.sha256 for case in found[:2]} == {dark.sha256, bright.sha256}
    assert len({case.id for case in found}) == 6


def test_concurrent_searches_are_one(bank, specialists, images, pictures):
    store = Counting(EmbeddedStore(bank, readonly=True))
    retrieval = Retrieval(store, specialists)
    refs = [images.put(pictures.shade("dark", 200 + n)) for n in range(12)]

    async def search():
        await asyncio.gather(*(specialists.embedding("shade/own", ref) for ref in refs))
        alone = [await retrieval.similar([ref], "shade", 3) for ref in refs[:2]]
        before = len(store.queries)
        together = await asyncio.gather(*(retrieval.similar([ref], "shade", 3) for ref in refs))
        return alone, together, store.queries[before:]

    alone, together, queries = asyncio.run(search())
    assert together[:2] == alone and sum(queries) == 12 and len(queries) <= 2
    retrieval.close()


def test_surroundings_tell_modalities_apart(retrieval, images, pictures):
    ref = images.put(pictures.stripes("lying", 99))
    around = asyncio.run(retrieval.surroundings([ref], 10, tasks=["shade"]))
    assert around.shares == {"stripes": 1.0}
    assert around.nearest["stripes"] > 0.98 > around.nearest["shade"]
    among = asyncio.run(retrieval.surroundings([ref], 10, among=["shade"]))
    assert set(among.shares) == {"shade"}


def test_the_strangest_image_of_a_case_decides_how_near_it_is(retrieval, images, pictures):
    usual, strange = images.put(pictures.shade("dark", 99)), images.put(pictures.stripes("lying", 99))
    alone = asyncio.run(retrieval.surroundings([strange], 5, tasks=["shade"]))
    both = asyncio.run(retrieval.surroundings([usual, strange], 5, tasks=["shade"]))
    assert both.nearest["shade"] == pytest.approx(alone.nearest["shade"])


def test_the_floor_separates_a_tasks_own_images_from_others(retrieval, images, pictures):
    async def measure():
        floor = await retrieval.floor("shade")
        own = await retrieval.surroundings([images.put(pictures.shade("bright", 99))], 1, tasks=["shade"])
        other = await retrieval.surroundings([images.put(pictures.checks(1))], 1, tasks=["shade"])
        return floor, own.nearest["shade"], other.nearest["shade"]

    floor, own, other = asyncio.run(measure())
    assert other < floor <= own


def test_the_floor_leaves_out_the_case_itself_and_its_group(retrieval, bank):
    store = EmbeddedStore(bank, readonly=True)
    floor = asyncio.run(retrieval.floor("shade"))
    from gsco.tools.stores.protocol import Filter

    entries = list(store.scan(Filter(("shade",))))
    vectors = [entry.vectors["efficientnet_lite0"] for entry in entries]
    nearest = [
        max(
            float(v @ w)
            for w, other in zip(vectors, entries, strict=True)
            if other.case.group != entry.case.group
        )
        for v, entry in zip(vectors, entries, strict=True)
    ]
    assert floor == pytest.approx(min(nearest), abs=1e-3), "with 30 cases the 1 % quantile is the least"
    store.close()


def test_too_few_known_cases_have_no_floor(retrieval, bank):
    assert EmbeddedStore(bank, readonly=True).tasks()["marks"] < FLOOR_LEAST
    assert asyncio.run(retrieval.floor("marks")) is None


def test_a_store_that_is_gone_is_an_error_and_opens_when_it_is_back(
    tmp_path, bank, specialists, images, pictures
):
    path = tmp_path / "cases.sqlite"
    retrieval = Retrieval(lambda: EmbeddedStore(path, readonly=True), specialists)
    ref = images.put(pictures.shade("dark", 99))
    with pytest.raises(StoreError, match="no case store"):
        asyncio.run(retrieval.similar([ref], "shade", 3))
    assert retrieval.size is None
    path.write_bytes(bank.read_bytes())
    assert len(asyncio.run(retrieval.similar([ref], "shade", 3))) == 3
    assert retrieval.size == 68
    retrieval.close()


def test_a_store_without_the_encoder_says_so(tmp_path, specialists, images, pictures, bank):
    path = tmp_path / "other.sqlite"
    with EmbeddedStore(path) as store, EmbeddedStore(bank, readonly=True) as source:
        store.add(
            type(entry)(entry.case, {"stripes/own": entry.vectors["stripes/own"]})
            for entry in source.scan()
            if "stripes/own" in entry.vectors
        )
    retrieval = Retrieval(EmbeddedStore(path, readonly=True), specialists)
    ref = images.put(pictures.shade("dark", 99))
    with pytest.raises(VectorMismatch, match="shade/own"):
        asyncio.run(retrieval.similar([ref], "shade", 3))
    with pytest.raises(StoreError, match="all tasks share"):
        asyncio.run(retrieval.surroundings([ref], 3))
    retrieval.close()
