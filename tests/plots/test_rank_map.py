"""The rank map: what goes where, and what can be read off it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

import autolora
from autolora.errors import UserError
from autolora.lora.places import rank_table
from autolora.plots.rank_map import PAGE, render, save_png, summary

LLAMA = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
LLAMA += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


def text_of(ranks: dict[str, int], initial_rank: int, colour: bool = False) -> str:
    console = Console(width=80, file=io.StringIO(), force_terminal=colour, color_system="truecolor" if colour else None)
    console.print(render(ranks, initial_rank))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def stack(form: str, layers: int, projections: list[str]) -> dict[str, int]:
    return {
        form.format(layer, name): (layer * 5 + column) % 17
        for layer in range(layers)
        for column, name in enumerate(projections)
    }


def test_the_numbers_can_be_read_without_colour() -> None:
    ranks = {"m.0.query": 7, "m.0.value": 0, "m.1.query": 12, "m.1.value": 5}
    lines = [line.split() for line in text_of(ranks, 16).splitlines()]
    assert ["layer", "query", "value"] in lines
    assert ["0", "7", "0"] in lines
    assert ["1", "12", "5"] in lines
    assert ["mean", "9.5", "2.5"] in lines
    assert "\x1b" not in text_of(ranks, 16)
    assert "sum 24 of 64, mean 6.00 of 16, 4 modules" in text_of(ranks, 16)


def test_the_background_darkens_with_the_rank() -> None:
    text = text_of({"m.0.query": 0, "m.1.query": 8, "m.2.query": 8}, 8, colour=True)
    assert "48;2;247;251;255m" in text
    assert text.count("48;2;8;48;107m") >= 2


@pytest.mark.parametrize("layers", [12, 32])
@pytest.mark.parametrize("projections", [LLAMA[:2], LLAMA, ["attention.output.dense", "output.dense", *LLAMA[:4]]])
def test_it_fits_80_columns_with_every_number_in_full(layers: int, projections: list[str]) -> None:
    ranks = stack("model.layers.{}.{}", layers, projections)
    lines = text_of(ranks, 16).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    for layer, row in enumerate(rank_table(ranks).values):
        assert [str(layer), *map(str, row)] in [line.split() for line in lines]


T5 = [f"{stack}.block.{{0}}.layer.0.SelfAttention.{kind}" for stack in ("encoder", "decoder") for kind in "qkvo"]
T5 += [f"decoder.block.{{0}}.layer.1.EncDecAttention.{kind}" for kind in "qkvo"]
T5 += [
    f"{s}.block.{{0}}.layer.{i}.DenseReluDense.{w}" for i, s in ((1, "encoder"), (2, "decoder")) for w in ("wi", "wo")
]


@pytest.mark.parametrize("width", [30, 80, 240])
def test_more_projections_than_fit_a_terminal_go_on_in_a_table_below(width: int) -> None:
    ranks = {form.format(layer): (7 * layer + i) % 17 for layer in range(6) for i, form in enumerate(T5)}
    console = Console(width=width, file=io.StringIO())
    console.print(render(ranks, 16))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    for layer, row in enumerate(rank_table(ranks).values):
        told = [line.split()[1:] for line in lines if line.split()[:1] == [str(layer)]]
        assert [number for part in told for number in part] == [str(rank) for rank in row]
    tables = sum("layer" in line.split() for line in lines)
    assert tables == 1 if width == 240 else tables > 1


def test_more_projections_than_fit_a_page_go_on_in_a_map_below(tmp_path: Path) -> None:
    ranks = {form.format(layer): (7 * layer + i) % 17 for layer in range(6) for i, form in enumerate(T5)}
    save_png(ranks, 16, tmp_path / "t5.png")
    save_png({name: rank for name, rank in ranks.items() if "encoder" in name}, 16, tmp_path / "encoder.png")
    with Image.open(tmp_path / "t5.png") as whole, Image.open(tmp_path / "encoder.png") as half:
        assert whole.width <= (PAGE + 2) * 200
        assert whole.height > 1.7 * half.height


def test_one_module_is_fine_and_no_modules_are_said_to_be_none(tmp_path: Path) -> None:
    assert summary({"m.0.q": 3}, 8) == "sum 3 of 8, mean 3.00 of 8, 1 module"
    assert summary({"m.0.q": 3}, 8) in text_of({"m.0.q": 3}, 8)
    save_png({"m.0.q": 3}, 8, tmp_path / "map.png")
    assert Image.open(tmp_path / "map.png").format == "PNG"
    assert "no modules" in text_of({}, 8)
    with pytest.raises(UserError, match="no ranks"):
        save_png({}, 8, tmp_path / "none.png")


def test_the_picture_grows_with_the_layers_and_is_the_same_bytes_twice(tmp_path: Path) -> None:
    small, large, again = (tmp_path / name for name in ("small.png", "large.png", "again.png"))
    save_png(stack("m.{}.{}", 6, ["query", "value"]), 16, small)
    save_png(stack("m.{}.{}", 30, LLAMA), 16, large)
    save_png(stack("m.{}.{}", 30, LLAMA), 16, again)
    assert large.read_bytes() == again.read_bytes()
    with Image.open(small) as first, Image.open(large) as second:
        assert first.format == "PNG"
        assert 400 <= first.width < second.width <= 2000
        assert 300 <= first.height < second.height <= 2400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.png", "large.png", "small.png"]


def test_a_higher_rank_is_a_darker_cell(tmp_path: Path) -> None:
    darkness = []
    for rank in (0, 4, 8):
        save_png({"m.0.query": rank, "m.1.query": rank}, 8, tmp_path / "map.png")
        with Image.open(tmp_path / "map.png") as image:
            grey = image.convert("L")
            darkness.append(255 - grey.getpixel((int(0.7 * 200) + 20, int(0.65 * 200) + 15)))
    assert darkness == sorted(set(darkness))


def test_the_terminal_part_does_not_import_matplotlib() -> None:
    code = "import sys, autolora.plots.rank_map, autolora.plots.selection; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(autolora.__file__).parents[1]
    )
    assert done.stdout.strip() == "False", done.stderr
