"""A private Ray cluster on this machine's loopback, for tests and the bench: `with local_cluster(cpus=4): ...`

A Ray node gives its agent 15 s to say which ports it listens on and then aborts as a whole, which a busy machine
misses. Here the ports are chosen, and said, beforehand, so nobody waits. Only what was started here is ended here:
never `ray stop`, which ends every Ray process of the user.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from interplay.core.types import InterplayError

START_S = 180.0
AGENT_PORTS = (
    "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port",
)
OBJECT_STORE_BYTES = 100_000_000  # micro-turns are small and travel in the calls themselves
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": str(int(START_S)),
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_enable_metrics_collection": "0",
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # our clusters' own
}
if "ray" not in sys.modules:  # Ray reads them when it is imported
    os.environ.update(QUIET)


@contextmanager
def local_cluster(cpus: int = 4) -> Iterator[str]:
    """Start a cluster of one node with `cpus` to give, connect this process to it, and end it. Yields its address.

    Raises InterplayError, with the end of Ray's own output, if it does not come up.
    """
    import ray

    if os.environ.get("RAY_AUTH_TOKEN") != QUIET["RAY_AUTH_TOKEN"]:
        raise InterplayError("import interplay.engine.ray_local before ray: its settings are read at import")
    # Local sockets have names of at most 107 bytes, and Ray puts 60 of its own behind the folder.
    folder = Path(tempfile.mkdtemp(prefix="ir", dir="/tmp" if os.path.isdir("/tmp") else None))
    gcs, *agents = _free_ports(5)
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--include-dashboard=false"]
    command += ["--node-ip-address=127.0.0.1", f"--port={gcs}", f"--num-cpus={cpus}", f"--temp-dir={folder}"]
    command += [f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats"]
    command += [f"--{name}={port}" for name, port in zip(AGENT_PORTS, agents, strict=True)]
    address = f"127.0.0.1:{gcs}"
    with open(folder / "start.log", "wb") as log:
        node = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(node, agents[0], folder)
        ray.init(address=address, log_to_driver=False, configure_logging=False)
        yield address
    finally:
        with suppress(Exception):  # a cluster that is broken is ended all the same
            ray.shutdown()
        node.terminate()
        with suppress(subprocess.TimeoutExpired):
            node.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(node: subprocess.Popen, listen_port: int, folder: Path) -> None:
    """Until the node says that it runs. listen_port: of its agent; the one port that Ray's own command line keeps from
    the node, which reads it from a file that the agent writes, and that is written here before."""
    until, told = time.monotonic() + START_S, ""
    while time.monotonic() < until and node.poll() is None:
        for known in folder.glob("session_2*/gcs_server_port_*"):
            file = known.with_name(known.name.replace("gcs_server_port_", "dashboard_agent_listen_port_"))
            if not file.exists():
                file.write_text(str(listen_port))
        told = (folder / "start.log").read_text(errors="replace")
        if "block forever" in told:
            return
        time.sleep(0.1)
    raise InterplayError(f"the Ray cluster did not start: {' '.join(told.split())[-600:]}")


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
