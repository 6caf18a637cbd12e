import os
from pathlib import Path

import pytest

from autolora.errors import RecipeError
from autolora.experiment.preflight import load_recipe
from autolora.recipe.load import dump_recipe, override_recipe, read_recipe
from autolora.recipe.plain_yaml import values
from autolora.recipe.schema import (
    Data,
    Elsewhere,
    Eval,
    Model,
    Recipe,
    Retrain,
    Search,
    Selection,
    Submission,
    Weights,
)

VALID = """\
task: classification
model:
  name: some-hub/model
data:
  hub: nyu-mll/glue
  config: cola
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def write(text: str, name: str = "cola.yaml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def faults(path: Path, *args: object, **options: object) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, *args, **options)  # type: ignore[arg-type]
    assert "\n".join(map(str, caught.value.faults)) == str(caught.value)
    return [str(fault) for fault in caught.value.faults]


def test_all_faults_of_a_recipe_are_reported_together_with_their_lines(minilm: Path) -> None:
    Path("glue/cola").mkdir(parents=True)
    path = write("""\
task: clasification
model:
  name: bundled:all-MiniLM-L6-v2
  dtype: bf16
  target_modules: [query, valeu]
data:
  path: glue/colla
  max_length: 0
search:
  epochz: 3
  rank: 0
  steps: 10
  epochs: 2
  weights:
    learning_rate: fast
    schedule: cosin
  estimator: exactly
retrain:
  steps: lots
  steps: 8.5
  rank: 4
eval:
  metrics: [accuracy,
    acuracy, 3]
  batch_size: null
seed: -1
rank: 8
""")
    assert faults(path) == [
        "cola.yaml:1: task: must be one of chat, classification, generation, imitation, regression, tagging, "
        "got 'clasification' "
        "(did you mean 'classification'?)",
        "cola.yaml:4: model.dtype: must be 'auto', 'float32' or 'bfloat16', got 'bf16' (did you mean 'bfloat16'?)",
        "cola.yaml:5: model.target_modules: 'valeu' matches no layer of the model (did you mean 'value'?)",
        f"cola.yaml:7: data.path: there is no data folder {Path('glue/colla').absolute()}; did you mean 'cola'? "
        "(point to the data with --data-root)",
        "cola.yaml:8: data.max_length: must be at least 2, got 0 "
        "(from 2 to 1048576: one token is a special one; no model reads more)",
        "cola.yaml:9: search: steps and epochs exclude each other; leave one out",
        "cola.yaml:10: search.epochz: unknown key (did you mean 'epochs'?)",
        "cola.yaml:11: search.rank: must be at least 1, got 0 "
        "(from 1 to 65536: no layer of any model has a larger smaller side)",
        "cola.yaml:15: search.weights.learning_rate: must be a number, got 'fast'",
        "cola.yaml:16: search.weights.schedule: must be 'constant', 'linear' or 'cosine', got 'cosin' "
        "(did you mean 'cosine'?)",
        "cola.yaml:17: search.estimator: must be one of central_difference, forward_difference, exact, first_order, "
        "none, got 'exactly' (did you mean 'exact'?)",
        "cola.yaml:20: retrain.steps: given twice, first in line 19",
        "cola.yaml:20: retrain.steps: must be a whole number, got 8.5",
        "cola.yaml:21: retrain.rank: unknown key (did you mean 'search.rank'?)",
        "cola.yaml:24: eval.metrics: must be one of accuracy, bleu, chrf, cider, entities, exact_match, f1, "
        "last_number, matthews, meteor, nist, pearson, perplexity, relative_error, rouge_l, spearman, ter, "
        "token_accuracy, got 'acuracy' (did you mean 'accuracy'?)",
        "cola.yaml:24: eval.metrics: must be text, got 3 (put it in quotes)",
        "cola.yaml:25: eval.batch_size: must be a whole number, got nothing",
        "cola.yaml:26: seed: must be at least 0, got -1 (from 0 to 4294967295: generators take 32 bits)",
        "cola.yaml:27: rank: unknown key (did you mean 'search.rank'?)",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("search: {rank: true}", "search.rank: must be a whole number, got true"),
        (
            "search: {lora_dropout: 1}",
            "search.lora_dropout: must be less than 1, got 1 "
            "(0 or more and below 1: a share of all, and 1 leaves none)",
        ),
        (
            "search: {weights: {learning_rate: 0}}",
            "search.weights.learning_rate: must be greater than 0, got 0 "
            "(from 0 to 100: Adam moves every weight by about the rate, and weights are below 1)",
        ),
        ("search: {lora_alpha: .inf}", "search.lora_alpha: must be a finite number, got inf"),
        ("search: {meta_learning: 1}", "search.meta_learning: must be true or false, got 1"),
        ("search:", "search: must be a section with keys below it, got nothing"),
        ("eval: {metrics: f1}", "eval.metrics: must be a list, got 'f1' (write [f1])"),
        ("eval: {metrics: []}", "eval.metrics: must have 1 or more entries, got 0"),
        ("search: {meta_learning: no}", "search.meta_learning: must be true or false, got 'no' (write false)"),
        ("search: {rank: 1_0}", "search.rank: must be a whole number, got '1_0' (write 10)"),
        ("search: {steps: 1e3}", "search.steps: must be a whole number, got 1000.0 (write 1000)"),
        ("search: {rank: 1:30}", "search.rank: must be a whole number, got '1:30'"),
        ("description: true", "description: must be text, got true (put it in quotes)"),
        ("name: a b", "name: must be letters, digits, '.', '_' and '-', in parts separated by '/', got 'a b'"),
        (
            "seed: 4294967296",
            "seed: must be at most 4294967295, got 4294967296 (from 0 to 4294967295: generators take 32 bits)",
        ),
        ("3: x", "3: a key must be text, got 3"),
        (
            "colour: x",
            "colour: unknown key "
            "(there is: name, task, description, model, data, loss, method, search, ranks, retrain, eval, card, seed)",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_rule_and_line(line: str, message: str) -> None:
    assert faults(write(VALID + line + "\n")) == [f"cola.yaml:7: {message}"]


@pytest.mark.parametrize("field", ["model.target_modules", "method.targets"])
def test_targets_are_names_or_all_linear_layers(field: str) -> None:
    path = write(VALID)
    read = {"model.target_modules": lambda r: r.model.target_modules, "method.targets": lambda r: r.method.targets}
    assert read[field](read_recipe(path, [f"{field}=all-linear"])) == "all-linear"
    assert read[field](read_recipe(path, [f"{field}=[query, value]"])) == ("query", "value")
    with pytest.raises(RecipeError) as error:
        read_recipe(path, [f"{field}=query"])
    (fault,) = error.value.faults
    assert fault.message == "must be 'all-linear' or a list of modules, got 'query'"
    with pytest.raises(RecipeError, match="must have 1 or more entries, got 0"):
        read_recipe(path, [f"{field}=[]"])


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("none", "must be 'auto' or a list of modules, got 'none'"),
        ("[]", "must have 1 or more entries, got 0"),
        ("[a, 3]", "must be text, got 3 (put it in quotes)"),
        ("{a: 1}", "must be 'auto' or a list of modules, got {'a': 1}"),
    ],
)
def test_a_wrong_head_is_one_fault_against_the_alternative_that_was_meant(head: str, message: str) -> None:
    path = write(f"task: regression\nmodel:\n  name: a/b\n  head: {head}\ndata: {{hub: a/c}}\n")
    assert faults(path) == [f"cola.yaml:4: model.head: {message}"]


def test_missing_keys_are_reported_at_the_section_that_lacks_them() -> None:
    assert faults(write("description: x\nmodel:\n  dtype: auto\ndata: {}\n")) == [
        "cola.yaml:1: task: missing, and it has no default",
        "cola.yaml:2: model.name: missing, and it has no default",
        "cola.yaml:4: data: one of hub, path or generated must say where the data is",
    ]


def test_a_wrong_source_of_data_is_not_reported_as_no_source_too() -> None:
    path = write("task: regression\nmodel: {name: a/b}\ndata:\n  path: 3\n")
    assert faults(path) == ["cola.yaml:4: data.path: must be text, got 3 (put it in quotes)"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["cola.yaml: the file is empty (a recipe needs at least task, model and data)"]),
        ("# a comment\n", ["cola.yaml: the file is empty (a recipe needs at least task, model and data)"]),
        (
            "task: x\nsearch:\n\trank: 3\n  \tsteps: 4\n",
            [f"cola.yaml:{line}: a tab; YAML forbids tabs for indentation (use spaces)" for line in (3, 4)],
        ),
        ("a:\t3\n", ["cola.yaml:1: a tab where YAML wants spaces (use spaces)"]),
        ("- task\n", ["cola.yaml:1: a recipe must be a mapping (key: value), got a list"]),
        ("task\n", ["cola.yaml:1: a recipe must be a mapping (key: value), got a single value"]),
        ("a: 1\nb: c: d\n", ["cola.yaml:2: the file is no YAML: mapping values are not allowed here (put text that "
                              "contains ': ' in quotes)"]),
        ("a: 1\n\x00\n", ["cola.yaml:2: the file is no YAML: control character #x0000 (take it out, or write \"\\u…\" "
                           "for it, in double quotes)"]),
        ("\n" + "[" * 600, ["cola.yaml:2: the file is no recipe: nested more than 20 deep"]),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_as_a_recipe_says_why(text: str, expected: list[str]) -> None:
    assert faults(write(text)) == expected


@pytest.mark.parametrize("text", ["a: [1, 2\nb: 3\n", 'a: "x\n', "a: 1\n---\nb: 2\n"])
def test_broken_syntax_is_reported_with_a_line(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^cola\.yaml:[12]: the file is no YAML: .+$"):
        load_recipe(write(text))


def test_bytes_that_are_not_utf8_are_reported_with_their_line() -> None:
    Path("cola.yaml").write_bytes(b"task: x\ndescription: caf\xe9\n")
    assert faults(Path("cola.yaml")) == ["cola.yaml:2: the file is not UTF-8 text: byte 0xe9 (save it as UTF-8)"]


def test_a_byte_order_mark_is_no_fault() -> None:
    Path("cola.yaml").write_bytes(b"\xef\xbb\xbf" + VALID.encode())
    assert load_recipe(Path("cola.yaml")).task == "classification"


def test_a_missing_file_is_reported_with_the_nearest_name() -> None:
    write(VALID)
    assert faults(Path("coal.yaml")) == ["coal.yaml: no such file (did you mean 'cola.yaml'?)"]
    assert faults(Path("zzz.yaml")) == [
        "zzz.yaml: no such file (the shipped recipes are listed by: autolora recipes list)"
    ]
    assert faults(Path("nowhere/cola.yaml")) == ["nowhere/cola.yaml: no such file (there is no folder nowhere)"]


def test_a_folder_is_no_recipe_and_its_recipes_are_listed() -> None:
    write(VALID, "glue/cola.yaml")
    assert faults(Path("glue")) == ["glue: this is a folder, not a recipe (it holds: cola.yaml)"]


def test_overrides_take_yaml_values_and_pass_the_same_check() -> None:
    settings = [
        "search.steps=200",
        "eval.metrics=[f1, matthews]",
        "search.weights.learning_rate=1e-3",
        "model.head=[score]",
    ]
    recipe = load_recipe(write(VALID), settings, seed=7)
    assert (recipe.search.steps, recipe.eval.metrics, recipe.seed) == (200, ("f1", "matthews"), 7)
    assert (recipe.search.weights.learning_rate, recipe.model.head) == (1e-3, ("score",))


def test_faults_of_overrides_name_the_option_and_come_after_the_files() -> None:
    path = write(VALID + "search: {rank: 0}\n")
    settings = [
        "search.stepz=200",
        "steps=3",
        "colour=3",
        "search.rnk",
        "retrain.steps=0",
        "eval=[f1",
        "search.zzzz=1",
        "serach.rank=3",
    ]
    assert faults(path, settings, seed=-1) == [
        "cola.yaml:7: search.rank: must be at least 1, got 0 "
        "(from 1 to 65536: no layer of any model has a larger smaller side)",
        "--set search.stepz=200: search.stepz: unknown key (did you mean 'search.steps'?)",
        "--set steps=3: steps: unknown key (did you mean 'search.steps' or 'retrain.steps'?)",
        "--set colour=3: colour: unknown key "
        "(there is: name, task, description, model, data, loss, method, search, ranks, retrain, eval, card, seed)",
        "--set search.rnk: must be key=value (write for instance search.steps=200)",
        "--set eval=[f1: eval: the value is no YAML (line 1: expected ',' or ']', but got '<stream end>'), "
        "got '[f1' (put text in quotes)",
        "--set search.zzzz=1: search.zzzz: unknown key (there is: steps, epochs, batch_size, gradient_accumulation, "
        "checkpoint_every, log_every, rank, lora_alpha, lora_dropout, validation_fraction, validation_batch_size, "
        "meta_learning, estimator, epsilon, inner_step, inner_learning_rate, constraint, threshold, weights, "
        "selection, at)",
        "--set serach.rank=3: serach.rank: unknown key (did you mean 'search.rank'?)",
        "--set retrain.steps=0: retrain.steps: must be at least 1, got 0 "
        "(from 1 to 1e+09: at a millisecond each these are 12 days)",
        "--seed -1: seed: must be at least 0, got -1 (from 0 to 4294967295: generators take 32 bits)",
    ]


def test_an_override_of_a_wrong_value_mends_the_recipe() -> None:
    assert load_recipe(write(VALID + "search: {rank: 0}\n"), ["search.rank=4"]).search.rank == 4


def test_a_whole_section_can_be_overridden_and_its_faults_name_the_option() -> None:
    path = write(VALID + "search:\n  rank: 3\n  steps: 5\n")
    assert load_recipe(path, ["search={steps: 9}"]).search == Search(steps=9)
    assert faults(path, ["search={rank: 0}"]) == [
        "--set search={rank: 0}: search.rank: must be at least 1, got 0 "
        "(from 1 to 65536: no layer of any model has a larger smaller side)"
    ]


def test_a_field_of_a_section_that_the_file_leaves_empty_is_set_like_any_other() -> None:
    elsewhere = VALID + "  evaluation: null\neval: {submission: null}\n"
    told = ["data.evaluation.hub=other/set", "eval.submission.files={a: test}"]
    for recipe in (
        read_recipe(write(elsewhere), told),
        override_recipe(read_recipe(write(VALID)), told),  # whose dump has both as null
    ):
        assert recipe.data.evaluation == Elsewhere(hub="other/set")
        assert recipe.eval.submission == Submission(files={"a": "test"})
    assert read_recipe(write(VALID + "search:\n"), ["search.rank=4"]).search == Search(rank=4)
    assert len(faults(write(VALID + "search: 3\n"), ["search.rank=4"])) == 1  # a section of a wrong kind stays wrong


def test_an_option_and_a_setting_that_say_two_things_are_refused() -> None:
    path = write(VALID)
    assert faults(path, ["seed=2", "model.name=a/b"], seed=1, model="c/d") == [
        "--set seed=2: seed: --seed 1 says something else (leave one out)",
        "--set model.name=a/b: model.name: --model c/d says something else (leave one out)",
    ]
    assert read_recipe(path, ["seed=1"], seed=1).seed == 1
    with pytest.raises(RecipeError, match="seed: --seed 1 says something else"):
        override_recipe(read_recipe(path), {"seed": 2}, seed=1)


def test_paths_in_a_section_of_an_option_count_from_the_working_directory_too(tmp_path: Path) -> None:
    path = write(VALID, "recipes/a.yaml")
    Path("net").mkdir()
    recipe = read_recipe(path, ["data={path: d, root: mine}", "model={name: ./net}"])
    assert (recipe.data.root, recipe.model.name) == (str(tmp_path / "mine"), str(tmp_path / "net"))
    changed = override_recipe(recipe, {"data": {"path": "d", "root": "other"}, "model": {"name": "net"}})
    assert (changed.data.root, changed.model.name) == (str(tmp_path / "other"), str(tmp_path / "net"))


@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_steps_from_the_command_line_replace_epochs_of_the_file_and_the_other_way_round(stage: str) -> None:
    by_epochs, by_steps = (
        write(VALID + f"{stage}: {{epochs: 2}}\n"),
        write(VALID + f"{stage}: {{steps: 9}}\n", "b.yaml"),
    )
    steps, epochs = getattr(load_recipe(by_epochs, [f"{stage}.steps=4"]), stage), f"{stage}.epochs=3"
    assert (steps.steps, steps.epochs) == (4, None)
    assert getattr(load_recipe(by_steps, [epochs]), stage).epochs == 3.0
    assert getattr(load_recipe(by_steps, [f"{stage}.epochs=null"]), stage).steps == 9
    with pytest.raises(RecipeError, match=f"{stage}: steps and epochs exclude each other"):
        load_recipe(by_steps, [f"{stage}.steps=4", epochs])


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("recipes/glue-mini/cola.yaml", "glue-mini/cola"),
        ("recipes/quickstart.yml", "quickstart"),
        ("autolora/_recipes/glue/rte.yaml", "glue/rte"),
        ("elsewhere/mine.yaml", "mine"),
        ("elsewhere/my own (2).yaml", "my-own-2-"),
    ],
)
def test_a_recipe_is_named_by_its_path_below_the_recipes_folder(file: str, name: str) -> None:
    assert load_recipe(write(VALID, file)).name == name


def test_a_name_in_the_recipe_wins() -> None:
    assert load_recipe(write("name: mine/first\n" + VALID, "recipes/x.yaml")).name == "mine/first"


def test_paths_in_a_recipe_count_from_its_folder_and_those_of_options_from_the_working_directory(
    tmp_path: Path,
) -> None:
    data = "task: classification\nmodel: {name: ./net}\ndata: {path: d, root: ../shared}\n"
    path = write(data, "recipes/a.yaml")
    recipe = read_recipe(path)
    assert (recipe.data.root, recipe.model.name) == (str(tmp_path / "shared"), str(tmp_path / "recipes/net"))
    Path("net").mkdir()
    for model in ("net", "./net", str(tmp_path / "net")):
        assert read_recipe(path, model=model).model.name == str(tmp_path / "net")
    assert read_recipe(path, data_root=Path("mine")).data.root == str(tmp_path / "mine")
    assert read_recipe(path, ["data.root=mine"]).data.root == str(tmp_path / "mine")


def test_the_default_root_is_the_recipes_folder_unless_the_data_comes_from_the_hub_or_is_generated(
    tmp_path: Path,
) -> None:
    head = "task: classification\nmodel: {name: a/b}\n"
    assert read_recipe(write(head + "data: {path: d}\n", "r/a.yaml")).data.root == str(tmp_path / "r")
    hub = write(head + "data: {hub: x/y, path: d}\n", "r/b.yaml")
    assert read_recipe(hub).data.root is None
    assert read_recipe(hub, data_root=tmp_path).data.root == str(tmp_path)
    generated = write(head + "data: {generated: acceptability}\n", "r/c.yaml")
    assert load_recipe(generated, data_root=tmp_path).data.root is None


def test_a_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = write("task: regression\nmodel: {name: ~/net}\ndata: {path: d, root: ~/data}\n")
    recipe = read_recipe(path)
    assert (recipe.model.name, recipe.data.root) == (str(tmp_path / "home/net"), str(tmp_path / "home/data"))


def test_another_model_does_not_keep_the_recipes_revision() -> None:
    path = write("task: regression\nmodel: {name: a/b, revision: abc}\ndata: {hub: x/y}\n")
    assert load_recipe(path).model.revision == "abc"
    assert load_recipe(path, model="c/d").model.revision is None
    assert load_recipe(path, ["model.revision=v2"], model="c/d").model.revision == "v2"


@pytest.mark.parametrize(
    ("data_path", "message"),
    [
        (
            "../secrets",
            r"data\.path: must stay below data\.root, got '\.\./secrets' \(set data\.root to the folder above\)",
        ),
        ("a/../../b", r"data\.path: must stay below data\.root"),
        ("/etc", r"data\.path: must be relative, got '/etc' \(put the absolute part into data\.root\)"),
    ],
)
def test_a_data_path_that_leaves_the_root_is_a_fault(data_path: str, message: str) -> None:
    path = write(f"task: regression\nmodel: {{name: a/b}}\ndata:\n  path: {data_path}\n")
    with pytest.raises(RecipeError, match=r"^cola\.yaml:4: " + message):
        load_recipe(path)


def test_without_the_check_a_recipe_is_read_though_its_data_is_gone() -> None:
    path = write("task: regression\nmodel: {name: /no/where}\ndata: {path: gone}\n")
    assert len(faults(path)) == 2
    assert read_recipe(path).data.path == "gone"


def test_a_dumped_recipe_reads_back_equal() -> None:
    recipe = Recipe(
        name="a/b",
        task="regression",
        description="yes: “no”\n1e-3",
        model=Model(name="/x/y", revision="1e3", dtype="float32", target_modules=("q", "null"), head=("score",)),
        data=Data(path="glue", root="/data", columns=("a", "b"), label="on", labels=("0", "1"), max_length=7),
        search=Search(steps=3, rank=2, inner_learning_rate=0.0, threshold=1e-30, weights=Weights(learning_rate=1e-5)),
        retrain=Retrain(epochs=0.1, lora_alpha=3, scaling="per_rank"),
        eval=Eval(metrics=("pearson", "spearman")),
        seed=2**32 - 1,
    )
    assert Recipe.model_validate(values(dump_recipe(recipe))) == recipe
    assert read_recipe(write(dump_recipe(recipe), f"other{os.sep}x.yaml")) == recipe


def test_a_dumped_recipe_writes_every_default_out() -> None:
    dumped = values(dump_recipe(load_recipe(write(VALID))))
    assert set(dumped) == set(Recipe.model_fields)
    assert set(dumped["search"]) == set(Search.model_fields)
    assert set(dumped["search"]["selection"]) == set(Selection.model_fields)
    assert set(dumped["data"]) == set(Data.model_fields)
