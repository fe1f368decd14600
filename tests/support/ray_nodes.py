"""Ray nodes on this machine for tests: a cluster in a process of its own, to which nodes are added and removed."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tests.support import ROOT
from tests.support.process import LIMIT_SECONDS

HERE = "127.0.0.1"


class Nodes:
    """`with Nodes() as nodes`: a head and one other node, a CPU each; environment: what reaches them needs.

    given: added to the environment of the nodes and their workers.
    """

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.ray_nodes"],
            cwd=ROOT,
            env={**os.environ, **self.environment, **(given or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.address = ""

    def do(self, what: str) -> str:
        """`add` or `remove`: a node; the answer comes when that is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(what, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("done "):
                return line.removeprefix("done ").strip()
        raise AssertionError("the nodes' process has ended")

    def __enter__(self) -> Self:
        self.address = self.do("add")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(LIMIT_SECONDS)


def main() -> None:
    from ray.cluster_utils import Cluster

    from fmnist_sweep.executors import ray_node

    logging.disable()
    node = {"num_cpus": 1, "node_ip_address": HERE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    added = []
    for line in sys.stdin:
        if line.strip() == "add":
            added.append(cluster.add_node(num_cpus=1, node_ip_address=HERE))
        else:
            cluster.remove_node(added.pop(), allow_graceful=False)
        print("done", cluster.address, flush=True)
    ray_node.end_session()


if __name__ == "__main__":
    main()
