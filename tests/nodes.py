"""A Ray cluster of several nodes on this machine: `python -m tests.nodes 3 [impatient]`.

Prints its address, answers the lines "add" and "remove" with "done", and exits at end of input.
An impatient one gives up silent nodes after seconds.
"""

import os
import sys
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

MEMORY = 80 << 20  # bytes of the object store of a node
ONE_CORE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": MEMORY}


IMPATIENT = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 5,
}


def main(count: int, *manner: str) -> None:
    head: dict[str, Any] = {
        "num_cpus": 0,
        "include_dashboard": False,
        "object_store_memory": MEMORY,
    }
    if "impatient" in manner:
        head["_system_config"] = IMPATIENT
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(**ONE_CORE) for _ in range(count)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "add":
            nodes.append(cluster.add_node(**ONE_CORE))
        else:
            cluster.remove_node(nodes.pop(0), allow_graceful=False)
        print("done", flush=True)
    cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
