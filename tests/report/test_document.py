"""The report as a whole: what is in it, that it needs nothing else, and that missing parts are said."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from autolora.comparison.outcome import Captioned
from autolora.errors import UserError
from autolora.lora.ranks import Ranks
from autolora.report.document import write_report
from autolora.report.html import to_html
from autolora.runs.results import Result

pytestmark = pytest.mark.usefixtures("small_pictures")

MODULES = [f"h.{layer}.attn.{name}" for layer in range(3) for name in ("query", "value")]
SAID = (
    "A report",
    "4 runs: 1 task, 2 methods, 2 seeds.",
    "The summary",
    "0.5124",
    "No rows.",
    "glue/cola",
    "Rank maps",
    "Ranks over seeds",
    "Spearman",
    "Selection variables",
    "Learning curves",
    "Parameters, quality and cost",
    "On the front: ",
    "c0ffee with changes",
    "cpu EPYC",
    "ab" * 32,
    "2.5000",
)
VOID = {"meta", "img", "br", "hr", "link", "input"}
MANIFEST = {
    "created": "2026-11-24T12:00:00+00:00",
    "commit": "c0ffee",
    "dirty": True,
    "packages": {"torch": "2.13.0"},
    "stages": {"retrain": {"seconds": 2.5, "device": {"type": "cpu", "name": "EPYC"}, "data": {"train": "ab" * 32}}},
}


class Page(HTMLParser):
    """A page whose tags must be balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> Iterator[Mapping[str, str | None]]:
        return (attributes for name, attributes in self.tags if name == tag)

    @property
    def text(self) -> str:
        return "".join(self.words)


def result(root: Path, method: str, seed: int, **values: Any) -> Result:
    """A finished run with ranks, logs and, for methods that search, selection variables."""
    run = root / re.sub(r"\W", "-", f"{method}-{seed}")
    by_name = {name: (index + seed) % 4 + 1 for index, name in enumerate(MODULES)}
    ranks = Ranks(by_name, initial_rank=4)
    if method.startswith("auto"):
        variables = {name: [0.1, 0.2, 0.3, 0.4] for name in MODULES}
        kept = {name: tuple(range(4 - rank, 4)) for name, rank in by_name.items()}
        rule = {"constraint": "softmax", "threshold": None, "selection": variables}
        ranks = Ranks(by_name, initial_rank=4, kept=kept, rule=rule)
        line = {"train_loss": 1.0, "validation_loss": 2.0, "selection": variables, "ranks": by_name}
        write(run / "search" / "log.jsonl", "".join(json.dumps({"step": n, **line}) + "\n" for n in (1, 2)))
    ranks.save(run / "search" / "ranks.json")
    write(run / "retrain" / "log.jsonl", '{"step": 1, "train_loss": 1.5}\n{"step": 2, "train_loss": NaN}\n')
    known: dict[str, Any] = {
        "recipe": "glue/cola", "state": "success", "run": run, "metric": "accuracy", "score": 0.5 + seed / 10,
        "adapter_parameters": 100 * (seed + 1), "ranks": ranks, "search_seconds": 1.0,
        "retrain_seconds": 2.0, "forward_passes": 3, "backward_passes": 4, "manifest": MANIFEST,
    }  # fmt: skip
    return Result(method=method, seed=seed, **(known | values))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def report(results: Sequence[Result], folder: Path, **more: Any) -> tuple[Page, str]:
    """The page and the Markdown."""
    paths = write_report(results, folder, more.pop("tables", []), more.pop("title", "A report"), **more)
    assert all(path.is_file() for path in paths)
    assert [path.name for path in paths[:2]] == ["report.html", "report.md"]
    return Page(paths[0].read_text(encoding="utf-8")), paths[1].read_text(encoding="utf-8")


def runs_of_two_methods(root: Path) -> list[Result]:
    return [result(root, method, seed) for method in ("autolora", "svd") for seed in (0, 1)]


@pytest.fixture
def four(tmp_path: Path) -> list[Result]:
    return runs_of_two_methods(tmp_path / "runs")


TABLES = (
    Captioned("scores", "The summary", [{"method": "autolora", "mean": 0.51239}]),
    Captioned("none", "Empty", []),
    Captioned("x", "See https://example.org.", []),
)


@dataclass(frozen=True)
class Reported:
    """What a report has been made of, its folder, and its two forms."""

    runs: list[Result]
    folder: Path
    page: Page
    markdown: str


@pytest.fixture(scope="module")
def reported(small_pictures: None, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """The report on four runs, with tables. To be read only."""
    folder = tmp_path_factory.mktemp("reported")
    runs = runs_of_two_methods(folder / "runs")
    return Reported(runs, folder / "report", *report(runs, folder / "report", tables=TABLES))


def test_it_has_every_section_in_both_forms(reported: Reported) -> None:
    for text in (reported.page.text, reported.markdown):
        for said in SAID:
            assert said in text, said


def test_it_needs_no_network_and_runs_no_script_but_its_own(reported: Reported) -> None:
    page = reported.page
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    text = (reported.folder / "report.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (str(meta["content"]) for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert f"script-src 'sha256-{digest}';" in policy
    assert not [attributes for attributes in page.all("script") if attributes]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(str(image["src"]).startswith("data:image/png;base64,") and image["alt"] for image in page.all("img"))
    links, anchors = {str(a["href"]) for a in page.all("a")}, [a["id"] for _, a in page.tags if "id" in a]
    assert links == {f"#{anchor}" for anchor in anchors}
    assert len(anchors) == len(set(anchors))
    assert next(page.all("html"))["lang"] == "en"
    assert not re.search(r"url\(|fetch|XMLHttp|import\(", text)


def test_texts_are_escaped(tmp_path: Path) -> None:
    bad = "<script>alert('&')</script>\"><img src=x>"
    runs = [result(tmp_path / "runs", f"auto{bad}", seed, recipe=f"r/{bad}") for seed in (0, 1)]
    runs.append(result(tmp_path / "runs", "lora:4", 0, state="failed", reason=bad))
    page, markdown = report(runs, tmp_path / "report", tables=[Captioned("x", bad, [{bad: bad}])], title=bad)
    assert len(list(page.all("script"))) == 1
    assert all(str(image["src"]).startswith("data:") for image in page.all("img"))
    assert page.text.count(bad) > 8
    assert "<script" not in markdown
    assert "<img" not in markdown


def test_the_markdowns_pictures_are_there(reported: Reported) -> None:
    folder = reported.folder
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", reported.markdown)
    assert len(links) == len(list(reported.page.all("img"))) == 1 + 2 + 1 + 3
    assert all((folder / link).is_file() for link in links)
    assert {path.relative_to(folder).as_posix() for path in (folder / "figures").iterdir()} == set(links)


def test_the_same_runs_give_the_same_bytes(reported: Reported, tmp_path: Path) -> None:
    report(reported.runs, tmp_path, tables=TABLES)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (reported.folder, tmp_path)
    )
    assert len(first) == 2 + 7
    assert first == second


def test_a_single_run_has_no_agreement(tmp_path: Path) -> None:
    page, _ = report([result(tmp_path / "runs", "autolora", 0)], tmp_path / "report")
    assert "1 run: 1 task, 1 method, 1 seed." in page.text
    assert "Agreement of the ranks between seeds" not in page.text
    assert "nothing to compare" in page.text


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    bare = Result("glue/cola", "full", 0, "success", tmp_path / "gone")
    page, markdown = report([bare], tmp_path / "report")
    for text in (page.text, markdown):
        assert "full: no ranks." in text
        assert "No selection variables" in text
        assert "No learning curves" in text
        assert "No run has a score and a number of parameters yet." in text
        assert "None of the runs has a manifest." in text
    assert list(page.all("img")) == []


def test_failed_runs_are_listed_with_the_reason_and_are_in_no_figure(tmp_path: Path) -> None:
    runs = [result(tmp_path / "runs", "autolora", 0)]
    runs.append(result(tmp_path / "runs", "svd", 1, state="failed", reason="out of memory"))
    runs.append(Result("glue/rte", "svd", 1, "missing"))
    page, _ = report(runs, tmp_path / "report")
    assert "2 runs did not succeed" in page.text
    assert "glue/cola, svd, seed 1: failed: out of memory" in page.text
    assert "glue/rte, svd, seed 1: missing" in page.text
    assert "No run of this task succeeded." in page.text
    assert not any("svd" in str(image["alt"]) for image in page.all("img"))


def test_a_run_that_has_only_searched_shows_its_ranks(tmp_path: Path) -> None:
    run = result(tmp_path / "runs", "autolora", 0, ranks=None, score=None)
    page, _ = report([run], tmp_path / "report")
    assert any("heat map of the ranks of autolora" in str(image["alt"]) for image in page.all("img"))


def test_a_method_without_a_log_of_its_own_is_named(four: list[Result], tmp_path: Path) -> None:
    for run in four[2:]:
        assert run.run is not None
        (run.run / "retrain" / "log.jsonl").unlink()
    page, _ = report(four, tmp_path / "report")
    assert "Without a log of the retraining: svd." in page.text


def test_a_search_that_was_shared_is_said_to_be_charged_to_each(
    reported: Reported, four: list[Result], tmp_path: Path
) -> None:
    said = "each is charged with it"
    assert said not in reported.markdown
    manifest = {"stages": {**MANIFEST["stages"], "search": {"shared": "../another"}}}  # type: ignore[dict-item]
    four[1] = result(tmp_path / "runs", "autolora", 1, manifest=MANIFEST | manifest)
    page, markdown = report(four, tmp_path / "after")
    assert said in page.text
    assert said in markdown


def test_uniform_ranks_are_said_in_words(tmp_path: Path) -> None:
    ranks = Ranks(dict.fromkeys(MODULES, 4), initial_rank=4)
    page, _ = report([result(tmp_path / "runs", "lora:4", 0, ranks=ranks)], tmp_path / "report")
    assert "lora:4: rank 4 in all 6 modules." in page.text


def test_components_are_compared_between_methods_of_one_seed(tmp_path: Path) -> None:
    runs = [result(tmp_path / "runs", method, 0) for method in ("autolora", "auto-other")]
    page, _ = report(runs, tmp_path / "report")
    assert "Jaccard of the kept components between methods of the same seed: glue/cola" in page.text
    assert "start from the same A" in page.text


def test_a_search_whose_losses_are_one_has_no_validation_set(tmp_path: Path) -> None:
    run = result(tmp_path / "runs", "autolora", 0)
    assert run.run is not None
    log = run.run / "search" / "log.jsonl"
    log.write_text(log.read_text().replace('"validation_loss": 2.0', '"validation_loss": 1.0'))
    page, _ = report([run], tmp_path / "report")
    assert "The two losses of autolora are one" in page.text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("search/ranks.json", "{"),
        ("search/ranks.json", '{"initial_rank": 4, "ranks": {"h.0.q": "many"}}'),
        ("search/ranks.json", '{"initial_rank": 4, "ranks": {"h.0.q": 1}, "selection": {"h.1.q": [1.0]}}'),
        ("search/log.jsonl", '{"step": 1}\n{"step"\n'),
        ("search/log.jsonl", '{"step": 1, "train_loss": 1.0}\n'),
        ("retrain/log.jsonl", "[]\n"),
        ("retrain/log.jsonl", '{"step": 1, "train_loss": "low"}\n'),
    ],
)
def test_a_damaged_file_is_named(name: str, text: str, tmp_path: Path) -> None:
    run = result(tmp_path / "runs", "autolora", 0)
    assert run.run is not None
    (run.run / name).write_text(text)
    with pytest.raises(UserError, match=re.escape(str(run.run / name))):
        report([run], tmp_path / "report")


def test_no_runs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one run"):
        write_report([], tmp_path, [], "A report")


def test_names_that_differ_in_signs_only_have_figures_of_their_own(tmp_path: Path) -> None:
    runs = [result(tmp_path / method.replace(":", "_"), method, 0) for method in ("svd:4", "svd-4")]
    page, _ = report(runs, tmp_path / "report")
    maps = [image for image in page.all("img") if "heat map" in str(image["alt"])]
    assert len(maps) == 2


def test_runs_in_the_working_directory_are_named_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page, _ = report([result(tmp_path / "runs", "svd", 0)], tmp_path / "report")
    assert "runs/svd-0" in page.text
    assert str(tmp_path) not in page.text


def test_tables_are_aligned_and_escaped() -> None:
    assert to_html([]) == ""
    page = Page(to_html([{"a<b": "x&y", "n": 1.0}, {"n": None, "more": "z"}]))
    assert [word for word in page.words if word.strip()] == ["a<b", "n", "more", "x&y", "1.0000", "z"]
    assert [cell.get("class") for cell in page.all("td")] == [None, "number", None] * 2
    assert all(cell["scope"] == "col" for cell in page.all("th"))
