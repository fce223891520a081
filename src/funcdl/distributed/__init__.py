"""Training with several processes, on one machine or many: see docs/distributed.md."""

from __future__ import annotations

from funcdl.absent import getter
from funcdl.distributed.data_parallel import value_and_grad
from funcdl.distributed.group import ProcessGroup
from funcdl.distributed.initialization import (
    current_group,
    initialize,
    is_initialized,
    shutdown,
)
from funcdl.distributed.launch import launch
from funcdl.distributed.operations import (
    Pending,
    all_gather,
    all_reduce,
    all_reduce_start,
    barrier,
    broadcast,
    recv,
    reduce_scatter,
    send,
    shard,
)
from funcdl.distributed.parameter_server import Served, Worker, serve
from funcdl.distributed.partition import Partition, Stage, partition
from funcdl.distributed.pipeline import pipeline

__getattr__ = getter(__name__)

__all__ = [
    "Partition",
    "Pending",
    "ProcessGroup",
    "Served",
    "Stage",
    "Worker",
    "all_gather",
    "all_reduce",
    "all_reduce_start",
    "barrier",
    "broadcast",
    "current_group",
    "initialize",
    "is_initialized",
    "launch",
    "partition",
    "pipeline",
    "recv",
    "reduce_scatter",
    "send",
    "serve",
    "shard",
    "shutdown",
    "value_and_grad",
]
