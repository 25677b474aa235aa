from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from harness.contract import usable_cpus
from harness.machine import processors
from harness.machine.processors import ProcessorProbe, ProcessorUse, share_now


class Machine:
    """Four processors, of which this process may use the first two. Seconds are set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy = [0.0] * 4
        self.stolen = 0.0
        self.own = {"harness": 0.0, "worker": 0.0}
        self.looks = 0

    def perf_counter(self) -> float:
        return self.now

    def cpu_times(self, percpu: bool) -> list[Any]:
        assert percpu
        self.looks += 1
        return [SimpleNamespace(user=one, idle=99.0, steal=self.stolen / 2) for one in self.busy]

    def process(self, name: str = "harness") -> Any:
        def cpu_times() -> Any:
            if name not in self.own:
                raise psutil.NoSuchProcess(1)
            return SimpleNamespace(
                user=self.own[name], system=0.0, children_user=0.0, children_system=0.0
            )

        return SimpleNamespace(
            cpu_affinity=lambda: [0, 1],
            children=lambda recursive: [self.process("worker")],
            cpu_times=cpu_times,
        )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    fake = SimpleNamespace(
        cpu_times=found.cpu_times, Process=found.process, Error=psutil.Error, cpu_count=lambda: 4
    )
    monkeypatch.setattr(processors, "psutil", fake)
    monkeypatch.setattr(processors, "time", found)
    return found


def test_others_are_what_our_processes_were_not(machine: Machine) -> None:
    probe = ProcessorProbe()
    machine.now = 10.0
    machine.busy = [9.0, 7.0, 10.0, 10.0]  # two processors are not ours
    machine.own = {"harness": 1.0, "worker": 11.0}
    assert probe.use(is_last=True) == ProcessorUse(others_seconds=4.0, all_seconds=20.0)
    machine.stolen = 2.0
    assert probe.use(is_last=True).others_seconds == 6.0


def test_counts_that_do_not_fit_are_no_use_below_nothing(machine: Machine) -> None:
    probe = ProcessorProbe()
    machine.now, machine.own["worker"] = 1.0, 0.02
    assert probe.use(is_last=True) == ProcessorUse(0.0, 2.0)


def test_others_never_have_more_than_all(machine: Machine) -> None:
    """In a run of 15 ms, the steps of the counts are as long as it is."""
    probe = ProcessorProbe()
    machine.now, machine.busy = 0.015, [0.02, 0.02, 0.0, 0.0]
    assert probe.use(is_last=True) == ProcessorUse(0.03, 0.03)


def test_it_looks_now_and_then_and_at_the_end(machine: Machine) -> None:
    """Batches may come a hundred times a second."""
    probe = ProcessorProbe()
    for machine.now in (0.5, 1.0, 1.5, 2.5, 3.0):
        probe.use()
    assert machine.looks == 1 + 1
    machine.busy = [3.0, 0.0, 0.0, 0.0]
    assert probe.use(is_last=True) == ProcessorUse(3.0, 6.0)


def test_a_worker_that_has_just_ended_is_no_error(machine: Machine) -> None:
    del machine.own["worker"]
    machine.now = 1.0
    assert ProcessorProbe().use(is_last=True) == ProcessorUse(0.0, 0.0)


def test_on_this_machine_our_own_work_is_not_that_of_others() -> None:
    """As many children as there are processors work as hard as they can. Counted as others', their
    time would be there twice."""
    work = [sys.executable, "-c", "while True: pass"]
    with ExitStack() as stack:
        children = []
        for _ in range(usable_cpus()):
            child = stack.enter_context(subprocess.Popen(work))
            stack.callback(child.kill)
            children.append(psutil.Process(child.pid))
        probe, before = ProcessorProbe(), sum(sum(one.cpu_times()[:2]) for one in children)
        time.sleep(0.5)
        # Within the time of the probe, however long the looks take.
        after = sum(sum(one.cpu_times()[:2]) for one in children)
        use = probe.use(is_last=True)
    assert use.all_seconds > 0.4
    # 10 ms are the step of each count, and the looks are not at one moment.
    assert use.others_seconds + (after - before) <= 1.5 * use.all_seconds


def test_busy_threads_get_a_part_of_what_they_want() -> None:
    few, many = share_now(1), share_now(4 * usable_cpus())
    assert 0 < few <= 1
    assert 0 < many <= 0.3  # at most a processor for four of them
