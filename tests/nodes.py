"""A Ray cluster of several nodes on this machine: `python -m tests.nodes 3`.

Prints its address and that for clients, answers the lines "add", "remove" and "cut" (clients off)
with "done", and exits at end of input.
"""

import os
import socket
import sys
from contextlib import suppress
from itertools import count
from typing import Any

import psutil

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

MEMORY = 80 << 20  # bytes of the object store of a node
ONE_CORE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": MEMORY}


def main(size: int) -> None:
    port = next(port for port in count(15_000 + os.getpid() % 10_000) if is_free(port))
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY}
    head |= {"ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(**ONE_CORE) for _ in range(size)]
    print(cluster.address, flush=True)
    print(f"ray://127.0.0.1:{port}", flush=True)
    for line in sys.stdin:
        match line.strip():
            case "add":
                nodes.append(cluster.add_node(**ONE_CORE))
            case "remove":
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
            case "cut":
                cut()
        print("done", flush=True)
    cluster.shutdown()  # type: ignore[no-untyped-call]


def is_free(port: int) -> bool:
    """Whether nothing listens at a port below those that the system hands out."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def cut() -> None:
    """Kill the servers of clients."""
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "ray.util.client.server" in each.cmdline():
                each.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]))
