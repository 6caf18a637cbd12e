"""TER's edits are sacrebleu's, whatever the sentences."""

import inspect
import json
import random
from importlib.metadata import version
from pathlib import Path

import pytest
from sacrebleu.metrics import lib_ter
from sacrebleu.metrics.ter import TER

from autolora.metrics import edit_rate
from autolora.metrics.edit_rate import edits, shortest_outside
from autolora.metrics.ter import ter
from autolora.metrics.text import by_position


def theirs(hypothesis: list[str], reference: list[str]) -> int:
    found: int = lib_ter.translation_edit_rate(hypothesis, reference)[0]
    return found


def test_sacrebleu_has_what_the_edits_are_made_of() -> None:
    needed = {
        "_shift": ["words_h", "words_r", "cached_ed", "checked_candidates"],
        "BeamEditDistance": ["words_ref"],
        "_BEAM_WIDTH": None,
        "_MAX_SHIFT_CANDIDATES": None,
    }
    changed = [name for name in needed if not hasattr(lib_ter, name)]
    changed += [name for name, given in needed.items() if given and name not in changed and _takes(name) != given]
    changed += [] if hasattr(TER, "_compute_segment_statistics") else ["TER._compute_segment_statistics"]
    assert not changed, (
        f"sacrebleu {version('sacrebleu')} has another {', '.join(changed)}, which autolora/metrics/edit_rate.py is "
        "built on: bound sacrebleu in pyproject.toml, and build it on what has come instead"
    )


def _takes(name: str) -> list[str]:
    return list(inspect.signature(getattr(lib_ter, name)).parameters)


def moved(words: list[str], draws: random.Random) -> list[str]:
    """With a part of them elsewhere, and some lost."""
    cut = draws.randrange(len(words) + 1)
    return [word for word in words[cut:] + words[:cut] if draws.random() > 0.1]


@pytest.mark.parametrize("vocabulary", [2, 6, 40])
def test_edits_of_drawn_sentences(vocabulary: int) -> None:
    draws = random.Random(vocabulary)
    names = [f"w{i}" for i in range(vocabulary)]
    for _ in range(40):
        reference = draws.choices(names, k=draws.randrange(1, 14))
        hypothesis = moved(reference, draws) if draws.random() < 0.5 else draws.choices(names, k=draws.randrange(14))
        assert edits(hypothesis, reference) == theirs(hypothesis, reference)


@pytest.mark.parametrize(("few", "many"), [(0, 4), (4, 0), (1, 70), (70, 1), (3, 45), (45, 3), (30, 33), (2, 120)])
def test_edits_of_sentences_of_very_different_lengths(few: int, many: int) -> None:
    draws = random.Random(few + many)
    names = [f"w{i}" for i in range(60)]
    hypothesis, reference = draws.choices(names, k=few), draws.choices(names, k=many)
    assert edits(hypothesis, reference) == theirs(hypothesis, reference)


def test_the_band_counts_where_the_way_around_it_is_as_short() -> None:
    # All 40 words stand 30 places later: the shortest path is outside of the band, and tercom does not find it.
    same, one, other = ([f"{kind}{i}" for i in range(n)] for kind, n in (("s", 40), ("a", 30), ("b", 30)))
    hypothesis, reference = [*one, *same], [*same, *other]
    found = edit_rate._Distance(reference)
    assert found._distance(hypothesis) == 60
    assert found(hypothesis)[0] == lib_ter.BeamEditDistance(reference)(hypothesis)[0] == 70
    assert shortest_outside(len(hypothesis), len(reference)) <= 60


def test_short_sentences_have_no_outside() -> None:
    assert shortest_outside(20, 20) == float("inf")
    assert shortest_outside(0, 50) == float("inf")
    assert shortest_outside(50, 50) > 40


def test_scores_on_webnlg_are_sacrebleus(shared_data: Path) -> None:
    lines = (shared_data / "webnlg" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[::450]]
    draws = random.Random(0)
    outputs = [" ".join(moved(row["references"][0].split(), draws)) for row in rows]
    references = [row["references"] for row in rows]
    expected = TER(normalized=True).corpus_score(outputs, by_position(references)).score / 100
    assert ter(outputs, references) == {"ter": expected}
    assert 0.1 < expected < 1
