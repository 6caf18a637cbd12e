"""A small share of what ``make fuzz`` tries, the cases that were kept, and that the harness finds what there is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from autolora.errors import UserError
from benchmarks.fuzz.cases import Case, Outcome, ended
from benchmarks.fuzz.data import DataFiles
from benchmarks.fuzz.recipes import Recipes
from benchmarks.fuzz.runs import RunFolders
from benchmarks.fuzz.workers import Limits, attempt, outcomes
from tests.cli.support import succeed_here

KEPT = sorted((Path(__file__).parent / "cases").glob("*-*"))
FUZZERS = {"recipes": Recipes(), "data": DataFiles(), "runs": RunFolders("lora:2", killed=False)}
SHARE = {"recipes": range(17), "data": range(40), "runs": range(6)}
LIMITS = Limits(seconds=120, mebibytes=1500)  # of a machine that has other things to do


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The commands' signal handler does not outlive a test."""
    import signal

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(autouse=True)
def _made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs that are damaged are made inside this process, which has imported torch."""

    def made(*words: str | Path, cwd: Path, log: Path) -> SimpleNamespace:
        succeed_here(*words, cwd=cwd)
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr("benchmarks.fuzz.runs.start", made)


@pytest.mark.parametrize("kind", SHARE)
def test_a_small_share_ends_right_or_is_refused(kind: str, base: Path) -> None:
    fuzzer = FUZZERS[kind]
    fuzzer.prepare(base / kind)
    cases = [Case(kind, 16, index) for index in SHARE[kind]]
    found = {str(case): each for case, each in outcomes(fuzzer, base / kind, cases, 1, LIMITS)}
    assert {name: f"{each.what}: {each.detail}" for name, each in found.items() if each.verdict == "finding"} == {}
    assert {"right", "refused"} <= {each.verdict for each in found.values()}


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_a_kept_case_stays_mended(folder: Path, base: Path, tmp_path: Path) -> None:
    fuzzer = FUZZERS[folder.name.partition("-")[0]]
    fuzzer.prepare(base / folder.name.partition("-")[0])
    outcome = fuzzer.replay(folder, base / folder.name.partition("-")[0], tmp_path)
    assert outcome.verdict != "finding", f"{outcome.what}: {outcome.detail}"


class Planted:
    """Of ten cases, one raises, one hangs, one takes memory, one ends the process, and six are right."""

    def prepare(self, base: Path) -> None:
        pass

    def run(self, case: Case, base: Path, scratch: Path, *, debug: bool = False) -> Outcome:
        if case.index == 1:
            return ended(lambda: 1 / 0).finding() or Outcome("right")
        if case.index == 2:
            time.sleep(60)
        if case.index == 3:
            hold = bytearray(600 * 2**20)
            time.sleep(60)
            del hold
        if case.index == 4:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGSEGV)
        if case.index == 5:
            raise ValueError("the check is wrong")
        return Outcome("right")


def test_exceptions_hangs_memory_and_deaths_are_found_and_the_rest_is_tried(tmp_path: Path) -> None:
    cases = [Case("planted", 0, index) for index in range(10)]
    found = {case.index: each for case, each in outcomes(Planted(), tmp_path, cases, 2, Limits(3.0, 300.0))}
    assert {index: each.what.partition(" in ")[0] for index, each in found.items() if each.verdict == "finding"} == {
        1: "exit 1: ZeroDivisionError",
        2: "hang",
        3: "memory",
        4: "the process died with SIGSEGV",
        5: "the check itself: ValueError",
    }
    assert [each.verdict for index, each in sorted(found.items()) if index not in range(1, 6)] == ["right"] * 5


def test_a_name_brings_a_case_back_and_mutations_do_not_hang_on_each_other() -> None:
    case = Case.named("runs:3:17")
    assert str(case) == "runs:3:17"
    assert str(Case.named("runs:3:17/0.2")) == "runs:3:17/0.2"
    last = [rng.random() for _, rng in case.mutations(3)][2]
    assert [rng.random() for _, rng in case.with_only([2]).mutations(3)] == [last]
    with pytest.raises(ValueError, match="a case is called KIND:SEED:INDEX"):
        Case.named("17")


def test_a_refusal_is_none_of_the_findings() -> None:
    def refuse() -> None:
        raise UserError("no")

    assert ended(refuse).finding() is None
    assert ended(lambda: None).finding() is None


def test_a_file_that_is_read_otherwise_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.fuzz.data._read", lambda path: [("other", "rows")])
    found = [attempt(DataFiles(), Case("data", 0, index), tmp_path, tmp_path / "scratch") for index in range(3)]
    assert {each.verdict for each in found} == {"finding"}
