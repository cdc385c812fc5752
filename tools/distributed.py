"""Indexing over many machines: Ray Data spreads reading and embedding, this process writes.

What is made of an image, and what is written, is the same code as on one machine (``entries``,
``indexing``). The specialists travel to the workers; the data set's folder must be there under the same
path. The workers ask for what the store holds already in a process beside this one, so that a store in a
file on this machine serves them too.
"""

from __future__ import annotations

import logging
import pickle
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..case import Task
from ..errors import ConfigurationError, GscoError, StoreError
from ..models.dataset import Dataset, Item, Split
from .entries import CaseOrigin, Made, Maker
from .indexing import IndexReport, IndexWriter, chosen_items, write_index
from .pictures import Broken, read_pictures
from .retriever import by_encoder
from .stores.protocol import CaseStore, Entry

if TYPE_CHECKING:
    from ..images import ImageLimits
    from ..models.specialist.specialist import TimmSpecialist

_CONNECTING = 10.0
_OUTPUT = 8 * 2**20
"""Bytes of results after which a worker hands them over."""
_BLOCKS = 4096
"""Shares of the work at most; a share is done again when the machine that does it is lost."""


def connected(address: str) -> Any:
    """Ray, connected to a cluster.

    Args:
        address: of the cluster, ``auto`` for the one that this machine belongs to, ``local`` for one that
            is started on this machine.

    Raises:
        ConfigurationError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigurationError("Ray is not installed; pip install 'gsco[ray]'") from error
    if not ray.is_initialized():
        _check_reachable(address)
        try:
            # Given no address, one is looked for in the environment first; "local" always starts one.
            ray.init(address=address, log_to_driver=False)
        except Exception as error:  # what it raises has no type of its own
            raise ConfigurationError(f"no Ray cluster at {address!r}: {error}") from error
    return ray


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes to reach a cluster that is not there.

    Raises:
        ConfigurationError: nothing listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTING).close()
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"no Ray cluster at {address!r}: {error}") from error


def build_index_on_ray(
    dataset: Dataset,
    task: Task,
    specialists: Sequence[TimmSpecialist],
    store: CaseStore,
    reopen: Callable[[], CaseStore],
    *,
    address: str,
    workers: int = 0,
    split: Split = "train",
    per_label: int | None = None,
    seed: int = 0,
    thumbnail: int = 64,
    batch_size: int = 32,
    limits: ImageLimits | None = None,
    quiet: bool = False,
) -> IndexReport:
    """Do what ``build_index`` does with the machines of a Ray cluster.

    Args:
        dataset: where the cases come from; its folder must be readable under this path everywhere.
        task: whose labels they carry.
        specialists: their encoders make the vectors.
        store: where the cases go.
        reopen: opens the same store to be read in another process of this machine.
        address: of the cluster, see ``connected``.
        workers: processes that embed; 0 for as many as the cluster has processors.
        split: of the data set.
        per_label: at most so many cases of each label.
        seed: of that draw.
        thumbnail: longest side of the small JPEG kept with a case, in pixels; 0 keeps none.
        batch_size: images per forward pass.
        limits: on the images' bytes and pixels; None for the usual ones.
        quiet: show no progress.

    Raises:
        ConfigurationError: as ``build_index``; or there is no such cluster.
        ImageUnreadable: not one of the images can be read.
        StoreError: the store cannot be written, its vectors were made by other weights, or workers were
            lost again and again.
    """
    chosen = chosen_items(dataset, task, split=split, per_label=per_label, seed=seed)
    # Workers run in other folders.
    items = [replace(item, path=item.path.absolute()) for item in chosen]
    origin = CaseOrigin(dataset.name, dataset.folder.absolute(), task, thumbnail)
    encoders = by_encoder(specialists)
    ray = connected(address)
    keeper = _keeper(ray, reopen)
    bench = WorkerSetup(origin, ray.put(encoders), keeper, batch_size, limits)
    try:
        made = _made(ray, items, bench, workers)
        return write_index(dataset.name, len(items), made, IndexWriter(store, encoders), quiet=quiet)
    finally:
        ray.kill(keeper)


@dataclass(frozen=True)
class WorkerSetup:
    """What each worker is given."""

    origin: CaseOrigin
    encoders: Any
    """Reference to the specialists by encoder name."""
    keeper: Any
    batch_size: int
    limits: ImageLimits | None


class StoreReader:
    """Reads the store for the workers."""

    def __init__(self, reopen: Callable[[], CaseStore]) -> None:
        # Opened at the first call: of an error in here Ray would tell the words only, and not which it was.
        self._reopen = reopen
        self._store: CaseStore | None = None

    def get(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Entries by id."""
        if self._store is None:
            self._store = self._reopen()
        return self._store.get(ids)


class IndexWorker:
    """Makes entries of a share of the images; what Ray Data runs in each of its actors."""

    def __init__(self, bench: WorkerSetup) -> None:
        import ray

        self._ray, self._bench = ray, bench
        self._maker = Maker(bench.origin, ray.get(bench.encoders))

    def __call__(self, share: Mapping[str, Iterable[bytes]]) -> dict[str, list[bytes]]:
        """Take pickled items and return one pickled batch of results for each batch of images."""
        items = [pickle.loads(item) for item in share["item"]]  # noqa: S301
        folder, size = self._bench.origin.folder, self._bench.batch_size
        read = read_pictures(items, folder, size, self._bench.limits)
        results = [(self._maker.make(pictures, self._held), broken) for pictures, broken in read]
        return {"made": [pickle.dumps(result) for result in results]}

    def _held(self, ids: Sequence[str]) -> Mapping[str, Entry]:
        try:
            return self._ray.get(self._bench.keeper.get.remote(list(ids)))
        except self._ray.exceptions.RayError as error:
            raise own_error(error) from error


def own_error(error: BaseException) -> BaseException:
    """The error of ours behind one of Ray's; what is none of ours stays what it is."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, GscoError):
        seen = getattr(seen, "cause", None) or seen.__cause__
    return seen or error


def _keeper(ray: Any, reopen: Callable[[], CaseStore]) -> Any:
    """Start the reader of the store on this machine, and wait until the store is open."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    keeper = ray.remote(StoreReader).options(num_cpus=0, scheduling_strategy=here).remote(reopen)
    try:
        ray.get(keeper.get.remote([]))
    except ray.exceptions.RayError as error:
        raise own_error(error) from error
    return keeper


def _made(
    ray: Any, items: Sequence[Item], bench: WorkerSetup, workers: int
) -> Iterator[tuple[list[Made], list[Broken]]]:
    import ray.data

    # Its steps are told in its own log; the progress here is ours.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    number = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    share = max(bench.batch_size, -(-len(items) // _BLOCKS))
    rows = [{"item": pickle.dumps(item)} for item in items]
    work = ray.data.from_items(rows, override_num_blocks=-(-len(items) // share))
    # Of images with the same pixels the first one counts, as on one machine.
    work.context.execution_options.preserve_order = True
    work.context.enable_progress_bars = False
    work.context.target_max_block_size = _OUTPUT
    results = work.map_batches(
        IndexWorker,
        fn_constructor_args=(bench,),
        batch_size=share,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=number),
        num_cpus=1,
    )
    try:
        for row in results.iter_rows():
            yield pickle.loads(row["made"])  # noqa: S301
    except ray.exceptions.RayError as error:
        own = own_error(error)
        if own is error:
            raise StoreError(f"the workers on the Ray cluster failed: {error}") from error
        raise own from error
