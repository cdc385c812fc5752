"""Two machines' worth of Ray on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import pytest

_PATIENCE = {
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_niceness": "0",
}
"""On a machine that is busy with something else a node takes long to start, and nice workers would starve."""


@contextmanager
def machines(*modules: ModuleType) -> Iterator[Any]:
    """A Ray cluster of two nodes, each with one processor, to which this process is connected.

    Args:
        modules: of the tests, which the nodes' processes cannot import; they travel along.
    """
    import ray
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    memory = 80 * 2**20
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name, value in _PATIENCE.items():
            patch.setenv(name, value)
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        head = {"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False}
        cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        stack.callback(cluster.shutdown)
        _patiently(lambda: cluster.add_node(num_cpus=1, object_store_memory=memory))
        ray.init(address=cluster.address, log_to_driver=False)
        stack.callback(ray.shutdown)
        yield cluster


def _patiently(start: Callable[[], Any]) -> Any:
    """Start a node; Ray gives up after half a minute, in which a busy machine may not come to it."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()
