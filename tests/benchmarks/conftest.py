from ..evals.conftest import finished_run, one_thread, shared_bench

__all__ = ["finished_run", "one_thread", "shared_bench"]
