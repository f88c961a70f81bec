"""Several processes train the model that one would: started by torchrun, over gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vae_core.processes import Processes

HERE = Path(__file__).parent
TASK = HERE / "in_processes.py"


def started(count: int, *arguments: str, expect: int = 0) -> str:
    """What ``in_processes.py`` prints, run by ``count`` processes; the errors, if it must fail."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={count}", str(TASK), *map(str, arguments),
    ]  # fmt: skip
    run = subprocess.run(
        command if count > 1 else [sys.executable, str(TASK), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (run.returncode != 0) == bool(expect), run.stderr[-3000:]
    return run.stderr if expect else run.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[int, dict]:
    """Everything ``in_processes.py`` computes, by 1, 2 and 3 processes."""
    folder = tmp_path_factory.mktemp("processes")
    for count in (1, 2, 3):
        printed = started(count, "everything", folder / f"{count}.pt", folder / f"run-{count}.pt")
        assert printed.count("fit: ") == 7, "one of them speaks"
    return {count: torch.load(folder / f"{count}.pt") for count in (1, 2, 3)}


CASES = ("by hand", "autograd", "importance-weighted", "short validation", "resumed")


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_weights_and_history_are_those_of_one_process(results, case, count):
    """float64, ten steps, images drawn anew, batches that don't split evenly."""
    one, several = results[1][case], results[count][case]
    for name, weights in one["weights"].items():
        torch.testing.assert_close(several["weights"][name], weights, rtol=1e-9, atol=1e-11)
    for kind in ("train", "val"):
        assert one[kind].keys() == several[kind].keys()
        for term, values in one[kind].items():
            assert several[kind][term] == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize("count", [2, 3])
def test_estimates_are_those_of_one_process(results, count):
    for name, value in results[1]["estimates"].items():
        torch.testing.assert_close(results[count]["estimates"][name], value)


@pytest.mark.parametrize("count", [2, 3])
def test_what_a_loss_draws_itself_differs_between_processes(results, count):
    drawn = results[count]["own draws"]
    assert len(drawn) == count == len(set(drawn))


def test_processes_that_are_no_group_are_an_error():
    assert "make them a group first" in started(2, "no group", expect=1)


def test_batch_normalisation_is_refused():
    assert "expected no layer that mixes the images" in started(2, "batch norm", expect=1)


def test_a_batch_for_fewer_images_than_processes_is_refused():
    assert "at least one image for each of 3" in started(3, "small batch", expect=1)


@pytest.mark.parametrize("n", [1, 2, 7, 128])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_are_all_but_equal_and_make_the_whole(n, count):
    group, rows = Processes(), []
    group.count = count
    for group.rank in range(count):
        rows += [list(range(n))[group.rows(n)]]
    if n < count:
        assert rows == [list(range(n))] * count and group.copies(n) == count
    else:
        assert sum(rows, []) == list(range(n)) and group.copies(n) == 1
        assert max(map(len, rows)) - min(map(len, rows)) <= 1
