"""A comparison's page as people look: one sentence, forest plots, one picture, then the rest, tables behind folds."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.collections import PathCollection

from autolora.comparison.groups import scores_by_task
from autolora.comparison.outcome import Captioned, outcome
from autolora.plots import pareto
from autolora.plots.figures import styles
from autolora.report.comparison_sections import _panel
from autolora.report.document import write_report
from autolora.report.style import CSS
from autolora.runs.results import Result
from tests.comparison.support import cell

METHODS = {  # gain over the baseline, parameters, seconds
    "lora-matched": (0.0, 36_864, 60.0),
    "lora:8": (0.01, 294_912, 66.0),
    "lora:8:target_modules=query,value": (0.005, 73_728, 54.0),
    "lora:1:target_modules=query,value": (-0.02, 9_216, 54.0),
    "squeeze:at=0.5:k=8:budget=rank=1": (0.02, 36_864, 72.0),
    "squeeze:at=0.5:k=2:budget=tolerance=0.02": (0.012, 18_000, 66.0),
    "squeeze-uniform:at=0.5:k=8": (0.003, 36_864, 66.0),
    "squeeze-shuffled:at=0.5:k=8": (-0.03, 36_864, 66.0),
    "fisher-scratch": (-0.005, 36_864, 108.0),
    "autolora": (-0.004, 36_000, 186.0),
    "autolora:budget=fraction=0.25": (0.001, 36_500, 186.0),
    "adalora": (-0.3, 36_864, 78.0),
}
TASKS = {"glue-mini/stsb": (0.82, 0.008), "glue-mini/cola": (0.45, 0.03), "ner-mini/ncbi_disease": (0.72, 0.01)}


def trials(seeds: int, tasks: tuple[str, ...] = tuple(TASKS)) -> list[Result]:
    draw, found = random.Random(1), []
    for task in tasks:
        level, spread = TASKS[task]
        for seed in range(seeds):
            shared = draw.gauss(0, spread)
            for method, (gain, size, seconds) in METHODS.items():
                value = level + gain + shared + draw.gauss(0, 0.003)
                more = {"adapter_parameters": size, "search_seconds": 0.0, "retrain_seconds": seconds}
                found.append(cell(task, method, seed, value, **more))
    return found


class Outline(HTMLParser):
    """The page in order: headings, sentences, pictures, folds, and which fold each table is in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.folds: list[tuple[str, bool]] = []  # summary, open
        self.tables: list[int] = []  # folds around each
        self._depth, self._reading, self._open = 0, "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "details":
            self._depth, self._open = self._depth + 1, "open" in given
        elif tag in ("summary", "h1", "h2", "h3", "p"):
            self._reading = "lead" if given.get("class") == "lead" else tag
        elif tag == "img":
            self.seen.append(f"img: {given['alt']}")
        elif tag == "nav":
            self.seen.append("nav")
        elif tag == "table":
            self.tables.append(self._depth)

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "details"
        self._reading = ""

    def handle_data(self, data: str) -> None:
        if self._reading == "summary":
            self.folds.append((data, self._open))
        elif self._reading:
            self.seen.append(f"{self._reading}: {data}")

    def place(self, start: str) -> int:
        return next(i for i, text in enumerate(self.seen) if text.startswith(start))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, results = tmp_path_factory.mktemp("many"), trials(5)
    extra = Captioned(
        "tuning", "Rates that were tried", [{"method": "adalora", "rate": 0.001}], notes=("Still falling.",)
    )
    write_report(results, folder, [*outcome(results, "lora-matched"), extra], "Many")
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> Outline:
    return Outline((written / "report.html").read_text(encoding="utf-8"))


def test_the_page_begins_with_one_sentence_and_the_forest_plots(page: Outline) -> None:
    starts = (
        "h1: Many",
        "lead: On the average of 3 tasks, over 5 seeds, ",
        "h2: Differences to lora-matched",
        "img: forest plot, average of 3 tasks",
        "img: forest plot, glue-mini/stsb",
        "img: forest plot, glue-mini/cola",
        "img: forest plot, ner-mini/ncbi_disease",
        "p: squeeze:at=0.5:k=8:budget=rank=1 is better than lora-matched by +0.0",
        "p: Differences to lora-matched, paired by seed (95 % t intervals",
        "h2: Parameters, quality and cost",
        "img: scatter plots of quality against parameters",
    )
    assert [text.startswith(start) for text, start in zip(page.seen, starts, strict=False)] == [True] * len(starts)
    later = ("p: 180 runs: 3 tasks, 12 methods, 5 seeds.", "nav", "h2: Tables", "h2: glue-mini/stsb")
    places = [page.place(start) for start in (*later, "h3: Rank maps", "h3: Learning curves", "h2: Runs and env")]
    assert places == sorted(places)
    assert places[0] > len(starts)


def test_every_table_is_behind_a_fold_of_its_name_and_the_first_is_open(page: Outline) -> None:
    assert page.tables
    assert min(page.tables) == 1
    tables = [(name, opened) for name, opened in page.folds if name != "Pareto fronts in numbers"]
    assert tables[0] == ("Mean ± standard deviation over seeds, by task", True)
    assert [opened for _, opened in tables[1:]] == [False] * (len(tables) - 1)
    names = [name for name, _ in tables]
    assert "Scores, and what was trained" in names
    assert any(name.startswith("Differences to lora-matched") for name in names)
    assert names[-1] == "Rates that were tried"  # whatever the outcome has
    assert "p: Still falling." in page.seen


def test_markdown_has_the_same_order_and_folds(written: Path) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# Many\n\n**On the average of 3 tasks, over 5 seeds, ")
    parts = ("![forest plot, average", "is better than lora-matched by", "![scatter plots", "180 runs:", "## Tables")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count("<details") == text.count("</details>")
    assert "<details open>\n<summary>Mean ± standard deviation over seeds, by task</summary>\n\n| method" in text
    outside = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
    assert "\n| " not in outside


def test_the_forest_plots_are_the_table_of_differences(written: Path) -> None:
    results = trials(5)
    (table,) = (table for table in outcome(results, "lora-matched") if table.stem == "differences")
    page = (written / "report.html").read_text(encoding="utf-8")
    for row in table.rows:
        numbers = f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
        assert f"{row['method']} {numbers}" in page


def test_it_stays_small(written: Path) -> None:
    assert (written / "report.html").stat().st_size < 1_500_000


def test_one_seed_has_points_without_intervals_and_the_page_says_so(tmp_path: Path) -> None:
    results = trials(1, ("glue-mini/stsb",))
    write_report(results, tmp_path, outcome(results, "lora-matched"), "One")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**With 1 seed, too few, no method can be told apart from lora-matched on glue-mini/stsb.**" in text
    assert "With one seed a difference has no interval" in text
    assert "(no interval)" in text


def test_a_report_without_a_baseline_begins_with_its_sentence_and_the_picture(tmp_path: Path) -> None:
    results = [each for each in trials(2, ("glue-mini/stsb",)) if each.method == "autolora"]
    write_report(results, tmp_path, outcome(results), "One")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**autolora alone, with nothing to compare it with: accuracy 0.8" in text
    assert "forest plot" not in text
    assert text.index("![scatter plots") < text.index("## Tables")


def test_the_pictures_points_are_parameters_scores_and_cost(tmp_path: Path) -> None:
    results = trials(3)
    average = next(task for task in scores_by_task(results) if task.is_average)
    panel = _panel(average, "lora-matched")
    by_label = {point.label: point for point in panel.points}
    assert by_label["lora-matched"].cost == 1.0
    assert by_label["autolora"].cost == pytest.approx(3.1)
    assert by_label["lora:8"].mean[0] == 294_912
    assert by_label["lora:8"].mean[1] == pytest.approx(sum(average.groups["lora:8"].scores.values()) / 3)
    figure = pareto._figure([panel], "seconds", styles(list(METHODS)))
    axes = figure.axes[0]
    large = [each for each in axes.collections if isinstance(each, PathCollection) and each.get_sizes()[0] > 6]
    areas = {round(float(each.get_offsets()[0][0])): float(each.get_sizes()[0]) for each in large}
    assert areas[294_912] / areas[9_216] == pytest.approx(66 / 54)  # seconds
    assert axes.get_xscale() == "log"
    order = sorted(METHODS, key=lambda method: -by_label[method].mean[1])
    said = [text.get_text() for text in axes.texts]
    assert sorted(said) == sorted([f"{by_label['adalora'].mean[1]:.3f}", *(str(n) for n in range(1, len(METHODS)))])
    legend = [text.get_text() for each in figure.legends for text in each.get_texts()]
    best = by_label[order[0]]
    assert legend[0] == f"1  {order[0]}:  {best.mean[1]:.4f}, 36.9k, {best.cost:.2g}×"
    assert [text.split()[1].removesuffix(":") for text in legend[: len(METHODS)]] == order
    assert {*legend[len(METHODS) :]} >= {"Pareto front", "1×", "4×"}
    assert "area: seconds" in [text.get_text() for text in figure.texts]


def test_a_method_that_trains_nothing_but_the_head_is_at_zero(tmp_path: Path) -> None:
    results = [
        cell("rte", "head", 0, 0.5, adapter_parameters=0),
        cell("rte", "lora:1", 0, 0.6, adapter_parameters=9216),
    ]
    panel = _panel(scores_by_task(results)[0], None)
    axes = pareto._figure([panel], "seconds", styles(["head", "lora:1"])).axes[0]
    assert axes.get_xscale() == "symlog"
    assert axes.get_xlim()[0] < 0


def test_a_long_name_breaks_wherever_it_stands_and_never_widens_the_page() -> None:
    """Also in a list inside a fold; cells of tables stand on one line, in a box that scrolls."""
    assert re.search(r"^body \{[^}]*overflow-wrap: anywhere", CSS, re.M)
    screen = CSS[: CSS.index("@media print")]
    assert re.findall(r"^(\S[^{]*?) \{[^}]*overflow-wrap: normal", screen, re.M) == ["table"]


def test_folds_are_printed() -> None:
    print_rules = CSS[CSS.index("@media print") :]
    assert re.search(r"details::details-content \{[^}]*content-visibility: visible", print_rules)
