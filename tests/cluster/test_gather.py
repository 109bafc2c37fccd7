"""Workers exchange no pickles, and on one machine they meet where no stranger listens."""

import ast
import os
import stat
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed import distributed_c10d
from workers import run_workers

from cluster.engine.gather import gather_values
from cluster.engine.mesh import TaskMesh
from cluster.engine.peers import ProcessGroupPeers
from cluster.meeting import meet, new_meeting
from metatrain.config import load_config
from metatrain.training.checkpoint import CheckpointStore, draft_of, state_of
from metatrain.training.state import TrainState

ROOT = Path(__file__).parents[2]
WORLD = 2


def collectives_of_objects():
    """List torch's collectives that send pickles."""
    return {name for name in dir(dist) if name.endswith(("_object", "_object_list"))}


def test_no_collective_of_objects_is_named_anywhere():
    pickling = collectives_of_objects()
    assert {"all_gather_object", "broadcast_object_list", "send_object_list"} <= pickling
    for package in ("cluster", "tuning", "metatrain"):
        for file in (ROOT / package).rglob("*.py"):
            nodes = ast.walk(ast.parse(file.read_text()))
            names = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
            assert not names & pickling, file


def no_pickles(*_):
    raise AssertionError("a worker sends or reads a pickle")


def work(rank, folder):
    from cluster.engine.build import build_engine_and_learner

    distributed_c10d._object_to_tensor = no_pickles
    distributed_c10d._tensor_to_object = no_pickles
    gathered = gather_values({"rank": rank, "tensor": torch.arange(rank + 1), "parts": ("a", None)})
    assert [value["rank"] for value in gathered] == [0, 1]
    assert [value["tensor"].tolist() for value in gathered] == [[0], [0, 1]]
    assert gathered[1]["parts"] == ["a", None]
    mesh = TaskMesh.make(None)
    assert mesh.gather_from_members(float(rank)) == [0.0, 1.0]
    peers = ProcessGroupPeers()
    for way in ("1", "3"):
        config = load_config(
            None, ["data.image_size=8", "generator.width=8", f"cluster.zero_stage={way}"]
        )
        engine, _ = build_engine_and_learner(config, torch.device("cpu"))
        engine.begin()
        gradient = {name: torch.ones_like(p) for name, p in engine.parameters().items()}
        engine.apply(gradient, 1e-3)
        assert engine.gather([f"task {rank}"]) == ["task 0", "task 1"]
        theta = engine.local()
        state = TrainState(
            step=1, parameters=theta, average=theta, optimizer=engine.optimizer_state()
        )
        store = CheckpointStore(f"{folder}/{way}")
        store.save(draft_of(state, config, engine.partitions), peers)
        resumed = store.latest(peers, partial(state_of, partitions=engine.partitions))
        assert resumed
        assert all(torch.equal(theta[name], p) for name, p in resumed.parameters.items())
    if rank == 0:
        Path(folder, "done").touch()


def test_engines_and_checkpoints_of_real_workers_need_no_pickle(tmp_path):
    run_workers(WORLD, tmp_path, work, str(tmp_path))
    assert (tmp_path / "done").exists()


def meet_on_loopback(rank, meeting, folder):
    os.environ |= {"CUDA_VISIBLE_DEVICES": ""}
    meet(meeting, "gloo", number=rank, world=WORLD, timeout=timedelta(seconds=60))
    later = dist.new_group(backend="gloo")
    value = torch.ones(1)
    dist.all_reduce(value)
    dist.all_reduce(value, group=later)
    assert value.item() == WORLD**2
    connections = psutil.Process().net_connections("inet")
    listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    Path(folder, str(rank)).write_text("\n".join(sorted(listening)))
    dist.barrier()
    dist.destroy_process_group()


def test_workers_of_one_machine_meet_in_a_private_file_and_listen_on_loopback_alone(tmp_path):
    meeting = new_meeting()
    try:
        assert stat.S_IMODE(Path(meeting).stat().st_mode) == 0o600
        mp.start_processes(
            meet_on_loopback, (meeting, str(tmp_path)), nprocs=WORLD, start_method="forkserver"
        )
    finally:
        Path(meeting).unlink(missing_ok=True)
    for rank in range(WORLD):
        listening = (tmp_path / str(rank)).read_text().split()
        assert set(listening) <= {"127.0.0.1", "::1"}


def test_interfaces_that_the_user_names_stay(monkeypatch):
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(variable, "eth7")
    meet("/meeting", "gloo", number=0, world=1, timeout=timedelta(seconds=1))
    assert os.environ["GLOO_SOCKET_IFNAME"] == os.environ["NCCL_SOCKET_IFNAME"] == "eth7"
