"""Work is spread over forked processes: in order, the same with any number, and nothing is left behind."""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import threadpoolctl

from tests import tiny_shot
from void_server import parallel, pipeline, process, shared_arrays
from void_server.bench import speed
from void_server.shot import check
from void_server.wire.errors import EngineError, JobCancelledError, PlateError
from void_server.wire.report import Report
from void_server.wire.shot import ShotSettings

forks = pytest.mark.skipif(sys.platform != "linux", reason="workers are processes on Linux alone")


@pytest.fixture
def cores():
    """Sets the number of cores for one test."""
    yield process.use_threads
    process.use_threads(None)


@pytest.mark.parametrize("hands", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(hands):
    made = parallel.in_order(lambda n: np.full(1000, n), range(20), hands, heavy=True)
    assert [int(one[0]) for one in made] == list(range(20))


def test_workers_see_what_was_made_before_they_were_forked_and_change_nothing_here():
    seen = {"before": 7}

    def work(n: int) -> int:
        seen["before"] += n
        return seen["before"]

    assert max(parallel.in_order(work, [1, 1, 1, 1], 2, heavy=True)) <= 11
    assert seen["before"] == 7


def test_light_work_is_done_here_and_heavy_work_by_others(monkeypatch):
    monkeypatch.setattr(parallel, "_crew_s", 0.01)
    here = os.getpid()
    assert set(parallel.in_order(lambda _: os.getpid(), range(100), 4)) == {here}

    def slow(_: int) -> int:
        threading.Event().wait(0.3)
        return os.getpid()

    first, *others = parallel.in_order(slow, range(6), 2)
    assert first == here and (sys.platform != "linux" or here not in others)


def test_an_error_of_a_worker_is_raised_here_with_its_frame():
    def work(frame: int) -> int:
        if frame == 1003:
            raise PlateError("Plate is truncated.", "Render it again.", frame=frame)
        return frame

    made = parallel.in_order(work, range(1001, 1009), 3, heavy=True)
    assert [next(made), next(made)] == [1001, 1002]
    with pytest.raises(PlateError, match="truncated") as told:
        next(made)
    assert told.value.frame == 1003 and told.value.hint == "Render it again."


@forks
@pytest.mark.parametrize("which", range(6))
def test_a_worker_that_the_system_ends_is_an_error_and_no_hang(which):
    with pytest.raises(EngineError, match="status -9"):
        list(parallel.in_order(lambda n: os.kill(os.getpid(), 9) if n == which else n, range(6), 6, heavy=True))


@forks
def test_a_system_without_room_for_more_processes_is_an_error_in_one_line(monkeypatch):
    fork, pids = os.fork, []

    def third_fails():
        if len(pids) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        pid = fork()
        pids.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", third_fails)
    with pytest.raises(EngineError, match="No more processes can be started: Resource"):
        list(parallel.in_order(lambda n: n, range(9), 8, heavy=True))
    for pid in pids:
        with pytest.raises(ChildProcessError):  # they have ended, and were waited for
            os.waitpid(pid, 0)


@forks
def test_workers_end_with_this_process_however_they_were_forked():
    code = (
        "import os; from void_server import parallel\n"
        "for pid in parallel.in_order(lambda _: os.getpid(), range(100_000), 6, heavy=True):\n"
        "    print(pid, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        pids = {int(run.stdout.readline()) for _ in range(12)}
        ends = [os.pidfd_open(pid) for pid in pids]
        run.kill()
        run.stdout.read()
    for end in ends:
        assert select.select([end], [], [], 30)[0], "a worker is still there"
        os.close(end)


def test_who_no_longer_wants_the_rest_leaves_no_process_behind():
    pids = set()
    made = parallel.in_order(lambda _: os.getpid(), range(50), 3, heavy=True)
    for _ in range(6):
        pids.add(next(made))
    made.close()
    for thread in threading.enumerate():
        if thread.name == "crew-end":
            thread.join()
    for pid in pids - {os.getpid()}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_waiting_is_cancelled():
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > 3:
            raise JobCancelledError("Cancelled.")

    with pytest.raises(JobCancelledError):
        list(parallel.in_order(lambda _: threading.Event().wait(60), range(4), 2, check, heavy=True))


def test_a_thread_that_reads_standard_input_holds_no_worker_up():
    code = (
        "import sys, threading; from void_server import parallel;"
        "threading.Thread(target=sys.stdin.read, daemon=True).start();"
        "print(sum(parallel.in_order(lambda n: n, range(9), 3, heavy=True)))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout.read().strip() == "36"
        run.stdin.close()
        assert run.wait(30) == 0


def test_a_worker_asks_for_no_workers_of_its_own():
    def work(n: int) -> int:
        return sum(parallel.in_order(lambda m: m * n, range(4), 4, heavy=True))

    assert list(parallel.in_order(work, range(4), 2, heavy=True)) == [0, 6, 12, 18]


def test_each_process_multiplies_matrices_on_one_thread():
    def blas(_: int) -> set[int]:
        found = threadpoolctl.threadpool_info()
        return {lib["num_threads"] for lib in found if lib["internal_api"] == "openblas"}

    assert list(parallel.in_order(blas, range(2), 2, heavy=True)) == [{1}, {1}]
    assert blas(0) == {1}


def test_what_was_heavy_is_worked_on_by_others_from_the_start_the_next_time(monkeypatch):
    monkeypatch.setattr(parallel, "WORTH", 0.0)

    def work(_: int) -> int:
        return os.getpid()

    here = os.getpid()
    first, second = (list(parallel.in_order(work, range(12), 2)) for _ in range(2))
    assert first[0] == here
    assert (sys.platform != "linux") or here not in second


def test_cores_are_what_was_asked_for_at_most_what_there_are(cores, monkeypatch):
    granted = process.granted_cores()
    assert process.threads() == granted
    cores(1)
    assert process.threads() == 1
    cores(granted + 8)
    assert process.threads() == granted
    cores(None)
    monkeypatch.setenv(process.THREADS_VARIABLE, "1")
    assert process.threads() == 1


def test_short_memory_means_fewer_hands(monkeypatch):
    monkeypatch.setattr(process, "threads", lambda: 16)
    monkeypatch.setattr(process, "free_bytes", lambda: 8 << 30)
    assert process.hands(1 << 30) == 4
    assert process.hands(1 << 20) == 16
    assert process.hands(1 << 40) == 1


def test_a_shot_comes_out_the_same_to_the_bit_with_one_core_and_with_three(tmp_path, monkeypatch):
    shot = tiny_shot.write(tmp_path / "shot")
    for cores in (1, 3):
        monkeypatch.setattr(process, "granted_cores", lambda cores=cores: cores)
        files, settings = check.find_files(shot.plate, shot.matte), ShotSettings(engine="propagate")
        pipeline.make_clean_plate(files, settings, tmp_path / str(cores), Report())
    for path in sorted((tmp_path / "1").glob("*.exr")):
        assert path.read_bytes() == (tmp_path / "3" / path.name).read_bytes(), path.name


@forks
def test_the_memory_of_all_workers_is_counted_whoever_forked_them():
    with parallel.Crew(lambda _: os.getpid(), 5) as crew:
        pids = {crew.submit(n).result(30) for n in range(50)}
        assert len(pids) == 5
        assert {str(pid) for pid in pids} < set(speed._family())


def test_bench_speed_says_where_the_time_of_a_shot_goes(tmp_path):
    from void_server.bench import speed

    shot = tiny_shot.write(tmp_path / "shot")
    fields, table = speed.run(check.find_files(shot.plate, shot.matte), ShotSettings(engine="propagate"), Report())
    assert {"read", "effects", "fill", "sheet"} <= set(fields["stages"])
    assert abs(sum(one["seconds"] for one in fields["stages"].values()) - fields["seconds"]) < 0.1
    assert fields["frames"] == len(tiny_shot.FRAMES) and fields["peak_bytes"] > 50 << 20
    assert table.splitlines()[0].split() == ["stage", "seconds", "share", "cores"]


@forks
def test_arrays_come_back_as_they_were_and_are_this_process_s_own():
    rng = np.random.default_rng(2)
    sent = {
        "large": rng.random((300, 200, 3)).astype(np.float32),
        "column by column": np.asfortranarray(rng.random((300, 200))),
        "every other": rng.random((400, 400))[::2, 1::2],
        "half": rng.random((500, 500)).astype(np.float16),
        "mask": rng.random((500, 500)) > 0.5,
        "small": np.arange(5),
        "empty": np.zeros((0, 3)),
        "text": ["nothing", None],
    }
    for made in parallel.in_order(lambda _: sent, range(3), 2, heavy=True):
        assert made.keys() == sent.keys()
        for name, one in sent.items():
            assert np.array_equal(made[name], one) and getattr(made[name], "dtype", None) == getattr(one, "dtype", None)
        made["large"][:] = 7
        made["mask"][0] = True
    assert sent["large"].max() < 1


@forks
def test_a_large_item_reaches_its_worker_and_what_the_worker_does_to_it_is_not_seen_here():
    item = np.zeros((1000, 1000), np.float32)

    def work(given: np.ndarray) -> float:
        given += 1
        return float(given.sum())

    with parallel.Crew(work, 2) as crew:
        assert [crew.submit(item).result(60) for _ in range(4)] == [1e6] * 4
    assert item.max() == 0


@forks
def test_results_that_are_held_keep_no_file_open_and_give_their_memory_back():
    def files_in_memory() -> int:
        return Path("/proc/self/maps").read_text(encoding="utf-8").count("memfd:void-arrays")

    def files_open() -> int:
        return len([*Path("/proc/self/fd").iterdir()])

    before, open_before = files_in_memory(), files_open()
    held = list(parallel.in_order(lambda n: np.full(100_000, n), range(300), 2, heavy=True))
    assert files_open() < open_before + 50
    assert files_in_memory() > before and [int(one[7]) for one in held] == list(range(300))
    part = held[9][5:8]
    held.clear()
    gc.collect()
    assert files_in_memory() <= before + 1 and part.tolist() == [9, 9, 9]
    del part
    gc.collect()
    assert files_in_memory() == before


@forks
def test_arrays_beyond_what_may_be_mapped_are_copied(monkeypatch):
    monkeypatch.setattr(shared_arrays, "MOST_MAPPED", 1)
    made = list(parallel.in_order(lambda n: np.full(100_000, n), range(4), 2, heavy=True))
    assert [int(one.sum()) for one in made] == [0, 100_000, 200_000, 300_000]


@forks
def test_where_no_file_in_memory_is_to_be_had_arrays_go_through_the_pipe(monkeypatch):
    def refused(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refused)
    with parallel.Crew(lambda given: given + 1, 2) as crew:
        assert int(crew.submit(np.zeros(100_000)).result(60).sum()) == 100_000


@forks
def test_a_result_that_can_not_be_taken_is_an_error_and_no_hang(monkeypatch):
    monkeypatch.setattr(socket, "recv_fds", lambda *_: (b"a", [], 0, None))  # as with no descriptor left
    with pytest.raises(EngineError, match="working process"):
        list(parallel.in_order(lambda n: np.full(100_000, n), range(4), 2, heavy=True))


@forks
@pytest.mark.parametrize("found", [True, False])
def test_a_python_without_files_in_memory_asks_the_c_library(monkeypatch, found):
    monkeypatch.delattr(os, "memfd_create")
    if not found:
        monkeypatch.setattr(shared_arrays, "_libc", object)
    with parallel.Crew(lambda given: given + 1, 2) as crew:
        assert int(crew.submit(np.zeros(100_000)).result(60).sum()) == 100_000


@forks
def test_an_interpreter_that_ends_with_work_open_ends():
    code = (
        "from void_server import parallel\n"
        "made = parallel.in_order(lambda n: n, range(50), 2, heavy=True)\n"
        "print(next(made))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n")


@forks
def test_a_dead_worker_is_noticed_beside_the_crew_of_another_thread():
    told = []

    def crew() -> None:
        for _ in range(6):
            with pytest.raises(EngineError, match="status -9"):
                list(parallel.in_order(lambda _: os.kill(os.getpid(), 9), range(6), 6, heavy=True))
        told.append(True)

    threads = [threading.Thread(target=crew, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == [True, True]


@forks
def test_crews_that_are_ended_at_once_leave_no_zombie():
    for _ in range(10):
        with parallel.Crew(lambda n: n, 8):
            pass
    for thread in threading.enumerate():
        if thread.name == "crew-end":
            thread.join()
    children = psutil.Process().children(recursive=True)
    assert [one for one in children if one.status() == psutil.STATUS_ZOMBIE] == []


def test_who_was_asked_to_end_is_cancelled_and_not_told_of_lacking_memory():
    ended: concurrent.futures.Future[int] = concurrent.futures.Future()
    ended.set_exception(EngineError("A working process was ended.", ""))
    asked = iter([False, True])

    def check() -> None:
        if next(asked):
            raise JobCancelledError("Cancelled.")

    with pytest.raises(JobCancelledError):
        parallel.waited_for(ended, check)


@forks
def test_what_can_not_be_sent_says_so():
    with pytest.raises(RuntimeError, match=r"[Cc]an't (pickle|get)"):
        list(parallel.in_order(lambda _: lambda: 1, range(4), 2, heavy=True))


@forks
def test_a_crew_that_is_asked_by_another_one_s_worker_works_there():
    with parallel.Crew(lambda n: n + 1, 2) as outer:
        inner = parallel.in_order(lambda n: outer.submit(n).result(30), range(4), 2, heavy=True)
        assert list(inner) == [1, 2, 3, 4]
        assert outer.submit(7).result(30) == 8


def test_an_error_with_one_hand_is_raised_where_the_result_is_asked_for():
    with parallel.Crew(lambda n: 1 // n, 1) as crew:
        future = crew.submit(0)
        with pytest.raises(ZeroDivisionError):
            future.result()


def test_what_one_function_took_is_not_told_of_another():
    def one(_: int) -> None: ...

    def other(_: int) -> None: ...

    same = functools.partial(functools.partial(one))
    assert parallel._code_of(same) is parallel._code_of(one) is not parallel._code_of(functools.partial(other))

    class Holder:
        def work(self, _: int) -> None: ...

    assert parallel._code_of(Holder().work) is parallel._code_of(functools.partial(Holder().work))
