"""What an exporter gets, from run directories in every state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from autolora.errors import UserError
from autolora.export.base import Allocation
from autolora.export.read import read_allocation
from autolora.lora.ranks import Ranks
from autolora.recipe.method import parse_method
from autolora.runs.store import Run
from tests.export.runs import ALPHA, LAYERS, RANKS, K, adapter_of, make_run, write
from tests.laboratory import change_state, of_an_earlier_version


def _read(run: Path) -> Allocation:
    return read_allocation(Run.open(run))


def test_a_searched_run_has_ranks_and_the_recipes_settings(tmp_path: Path) -> None:
    found = _read(make_run(tmp_path))
    ranks = found.ranks
    assert (ranks, ranks.initial_rank, ranks.lora_alpha, found.dropout) == (RANKS, K, 16.0, 0.1)
    assert (found.model, found.revision, ranks.scaling, found.adapter) == ("owner/base", "v1", "constant", None)
    assert (found.head, found.task_type) == ((), None)
    assert "autolora retrain" in found.remarks[0]


def test_what_the_recipe_says_of_the_retraining_wins(tmp_path: Path) -> None:
    retrain = {"lora_alpha": 8.0, "lora_dropout": 0.0, "scaling": "per_rank"}
    found = _read(make_run(tmp_path, retrain=retrain, head=["classifier"]))
    assert (found.ranks.lora_alpha, found.dropout, found.ranks.scaling) == (8.0, 0.0, "per_rank")
    assert found.head == ("classifier",)
    assert found.ranks.alpha(LAYERS[0]) == 8.0


def test_the_adapter_tells_head_and_task_type(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write(run / "adapter" / "adapter_config.json", adapter_of(RANKS, fan_in_fan_out=True))
    found = _read(run)
    assert (found.head, found.task_type, found.fan_in_fan_out) == (("classifier",), "SEQ_CLS", True)
    assert (found.adapter, found.remarks) == (str(run / "adapter"), ())


def test_before_the_retraining_the_searched_adapter_tells_them(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write(run / "search" / "adapter" / "adapter_config.json", adapter_of(RANKS, task_type="TOKEN_CLS"))
    found = _read(run)
    assert (found.task_type, found.adapter, found.remarks) == ("TOKEN_CLS", None, ())


def test_ranks_found_in_training_win(tmp_path: Path) -> None:
    run, other = make_run(tmp_path), dict.fromkeys(LAYERS, 2)
    Ranks(other, initial_rank=6, lora_alpha=24.0).save(run / "retrain" / "ranks.json")
    write(run / "adapter" / "adapter_config.json", adapter_of(RANKS, peft_type="ADALORA"))
    found = _read(run)
    assert (found.ranks, found.ranks.initial_rank, found.adapter) == (other, 6, None)
    assert found.ranks.scale(LAYERS[0]) == 24.0 / 6
    (run / "search" / "ranks.json").unlink()
    assert _read(run).ranks == other


@pytest.mark.parametrize(
    "changed",
    [{**RANKS, LAYERS[0]: 2}, {**RANKS, LAYERS[1]: 1}, {**RANKS, LAYERS[3]: 0}],
    ids=["another rank", "one layer more", "one layer less"],
)
def test_an_adapter_of_other_ranks_is_refused(tmp_path: Path, changed: dict[str, int]) -> None:
    run = make_run(tmp_path)
    write(run / "adapter" / "adapter_config.json", adapter_of(changed))
    with pytest.raises(UserError, match=r"other ranks than .*ranks\.json has, in 1 of 4 layers .*autolora retrain"):
        _read(run)


def test_an_adapter_of_other_scalings_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write(run / "adapter" / "adapter_config.json", adapter_of(RANKS, lora_alpha=16.0))
    with pytest.raises(UserError, match=rf"{LAYERS[0]} has the scaling 5.33333, but should have 4; .*autolora retrain"):
        _read(run)


@pytest.mark.parametrize("lost", ["lora_A", "lora_B"])
def test_an_adapter_that_lacks_a_factor_is_refused(tmp_path: Path, lost: str) -> None:
    run, shapes = make_run(tmp_path), dict.fromkeys(LAYERS, (6, 8))
    Ranks(RANKS, K, ALPHA, shapes=shapes).save(run / "search" / "ranks.json")
    write(run / "adapter" / "adapter_config.json", adapter_of(RANKS))
    tensors = {f"base_model.model.{name}.lora_A.weight": np.zeros((rank, 6)) for name, rank in RANKS.items() if rank}
    tensors |= {f"base_model.model.{name}.lora_B.weight": np.zeros((8, rank)) for name, rank in RANKS.items() if rank}
    save_file(tensors, run / "adapter" / "adapter_model.safetensors")
    assert _read(run).ranks == RANKS
    del tensors[f"base_model.model.{LAYERS[0]}.{lost}.weight"]
    save_file(tensors, run / "adapter" / "adapter_model.safetensors")
    with pytest.raises(UserError, match=rf"{LAYERS[0]}.{lost}.weight is missing; .*autolora retrain"):
        _read(run)


def test_an_adapter_whose_targets_peft_has_shortened_agrees(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    shortened = ["0.attention.self.query", "1.attention.self.query", "1.attention.self.value"]
    write(run / "adapter" / "adapter_config.json", adapter_of(RANKS, target_modules=shortened))
    assert _read(run).ranks == RANKS


def test_a_bundled_model_goes_by_its_hub_id(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    of_an_earlier_version(run)
    recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
    (run / "recipe.yaml").write_text(recipe.replace("owner/base", "bundled:all-MiniLM-L6-v2"), encoding="utf-8")
    found = _read(run)
    assert (found.model, found.revision) == ("sentence-transformers/all-MiniLM-L6-v2", None)


def test_a_run_without_ranks_says_what_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "search" / "ranks.json").unlink()
    with pytest.raises(UserError, match=r"has no ranks yet; run: autolora search .* --resume"):
        _read(run)


def test_a_method_without_ranks_has_nothing_to_export(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "search" / "ranks.json").unlink()
    opened = Run.open(run)
    opened.recipe = opened.recipe.model_copy(update={"method": parse_method("full")})
    opened.save_recipe()
    change_state(run / "status.json", state="success", stages={"retrain": {"state": "success"}})
    with pytest.raises(UserError, match="its method, full, has no ranks; there is nothing to export"):
        _read(run)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"ranks": {}, "initial_rank": 4}',
        '{"ranks": {"a": 1}}',
        '{"ranks": {"a": 1.5}, "initial_rank": 4}',
        '{"ranks": {"a": true}, "initial_rank": 4}',
        '{"ranks": {"a": -1}, "initial_rank": 4}',
        '{"ranks": {"a": 1}, "initial_rank": 0}',
    ],
)
def test_a_damaged_file_of_ranks_is_named(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path)
    (run / "search" / "ranks.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"search/ranks\.json holds no ranks: .*autolora search .* --resume"):
        _read(run)


def test_ranks_that_are_no_json_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "search" / "ranks.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"search/ranks\.json cannot be read: .*autolora search .* --resume"):
        _read(run)


@pytest.mark.parametrize("content", ["{", "[]", '{"peft_type": "LORA"}', '{"peft_type": "LORA", "target_modules": 3}'])
def test_a_damaged_adapter_is_named(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path)
    write(run / "adapter" / "adapter_config.json", {})
    (run / "adapter" / "adapter_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"adapter_config\.json is no .*autolora retrain"):
        _read(run)


def test_reading_and_writing_import_no_heavy_library(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    script = (
        "import sys; from pathlib import Path\n"
        "from autolora.cli.export import export; from autolora.registry import EXPORT_FORMATS\n"
        "from contextlib import suppress; from autolora.errors import UserError\n"
        "for name in EXPORT_FORMATS:\n"
        "    with suppress(UserError) if name == 'torchtune' else suppress():  # whose models have no such layers\n"
        f"        export({str(run)!r}, name, None, Path('runs'))\n"
        "assert not {'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
