"""Tries recipes, run folders and data files that are damaged at random: each ends right, or is refused.

    python -m benchmarks.fuzz                                  2000 recipes, 500 run folders, 1000 data files
    python -m benchmarks.fuzz recipes --cases 200 --seed 7     a part
    python -m benchmarks.fuzz --case runs:0:17                 one case, with its traceback
    python -m benchmarks.fuzz --case runs:0:17 --keep NAME     keeps what it reads as tests/fuzz/cases/runs-NAME
    python -m benchmarks.fuzz --folder DIR                     the runs that run folders are copies of: made once

Anything but a right result and exit code 2 within the limits of time and memory is a finding; those of one kind are
listed together, each with a case that brings it back. The exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from benchmarks.fuzz.cases import Case, Fuzzer, Outcome, root, say
from benchmarks.fuzz.data import DataFiles
from benchmarks.fuzz.recipes import Recipes
from benchmarks.fuzz.runs import RunFolders
from benchmarks.fuzz.workers import Limits, outcomes

KINDS: dict[str, tuple[Fuzzer, int, Limits]] = {  # how many cases a round has, and what each may take
    "recipes": (Recipes(), 2000, Limits(seconds=20, mebibytes=500)),
    "runs": (RunFolders(), 500, Limits(seconds=120, mebibytes=1500)),
    "data": (DataFiles(), 1000, Limits(seconds=30, mebibytes=800)),
}
KEPT = Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "cases"


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", COLUMNS="200")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        folder = given.folder or Path(temporary)
        if given.case:
            return _one(Case.named(given.case), folder, given.keep)
        found = [_round(kind, folder / kind, given) for kind in given.kinds or KINDS]
    return 1 if any(found) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=root(), description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="default: all")
    parser.add_argument("--cases", type=int, help="how many of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--case", help="one case, by its name")
    parser.add_argument("--keep", metavar="NAME", help="with --case: keep it for the tests")
    parser.add_argument("--folder", type=Path, help="where the runs to be damaged are, or go")
    return parser


def _one(case: Case, folder: Path, keep: str | None) -> int:
    fuzzer, _, limits = KINDS[case.kind]
    fuzzer.prepare(folder / case.kind)
    ((_, outcome),) = outcomes(fuzzer, folder / case.kind, [case], 1, limits)
    say(f"{case}: {outcome.verdict} {outcome.what}\n{outcome.detail}")
    if keep:
        kept = KEPT / f"{case.kind}-{keep}"
        kept.mkdir(parents=True)
        fuzzer.keep(case, folder / case.kind, kept)
        say(f"kept in {kept}")
    return 1 if outcome.verdict == "finding" else 0


def _round(kind: str, folder: Path, given: argparse.Namespace) -> int:
    """How many kinds of findings there are."""
    fuzzer, count, limits = KINDS[kind]
    count = given.cases or count
    begun = time.monotonic()
    fuzzer.prepare(folder)
    prepared = time.monotonic()
    verdicts: Counter[str] = Counter()
    findings: dict[str, list[tuple[Case, Outcome]]] = defaultdict(list)
    cases = [Case(kind, given.seed, index) for index in range(given.first, given.first + count)]
    for case, outcome in outcomes(fuzzer, folder, cases, given.jobs, limits):
        verdicts[outcome.verdict] += 1
        if outcome.verdict == "finding":
            findings[outcome.what].append((case, outcome))
            if len(findings[outcome.what]) == 1:
                say(f"  finding: {case}: {outcome.what}")
    took = time.monotonic() - prepared
    shown = ", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items()))
    say(f"{kind}, seed {given.seed}: {count} cases in {took:.0f} s, {count / took:.1f} a second: {shown}")
    say(f"  after {prepared - begun:.0f} s of preparation")
    for what, cases_of in sorted(findings.items(), key=lambda item: -len(item[1])):
        smallest, outcome = _smaller(fuzzer, folder, what, *cases_of[0], limits)
        say(f"\n  {len(cases_of)} × {what}\n    {root()} --case {smallest}")
        say("".join(f"    | {line[:300]}\n" for line in outcome.detail.strip().split("\n")[-8:]))
    return len(findings)


def _smaller(
    fuzzer: Fuzzer, folder: Path, what: str, case: Case, outcome: Outcome, limits: Limits
) -> tuple[Case, Outcome]:
    """The case with one of its mutations only, if that does."""
    if outcome.mutations < 2 or what == "hang":
        return case, outcome
    singles = [case.with_only([i]) for i in range(outcome.mutations)]
    for single, found in outcomes(fuzzer, folder, singles, 1, limits):
        if found.what == what:
            return single, found
    return case, outcome


if __name__ == "__main__":
    sys.exit(main())
