"""The path of the GPU's benchmark, on a CPU with a tiny shape; its formula; what it says where there is no GPU."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu
from benchmarks.gpu import NONE, PAD, TINY, Shape, collate, finetuning, waits

SHAPE = Shape(TINY, 100, 4, 12)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == NONE
    assert capsys.readouterr().out.startswith("no GPU is at hand, nothing was measured")


def test_the_whole_path_runs_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--block", "2", "--blocks", "1", "--warmup", "1", "--examples", "12", "--batch-sizes", "4"]
    assert gpu.main(["--cpu", "--without-compile", *options]) == 0
    said = capsys.readouterr().out
    assert "Trainer, grouped by length" in said
    assert "| autolora" in said
    assert "aten::_local_scalar_dense" in said


def test_batches_are_padded_to_their_longest() -> None:
    batch = collate([{"input_ids": [7, 8, 9], "labels": 1}, {"input_ids": [6], "labels": 0}])
    assert batch["input_ids"].tolist() == [[7, 8, 9], [6, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_flops_are_those_that_torch_counts() -> None:
    """Of a frozen model whose input takes a gradient, so that nothing is left out below the lowest adapted layer."""
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(**TINY, vocab_size=100, attn_implementation="eager")
    model = RobertaModel(config, add_pooling_layer=False).requires_grad_(False).eval()
    embedded = torch.randn(1, 10, TINY["hidden_size"], requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model(inputs_embeds=embedded).last_hidden_state.sum().backward()
    assert SHAPE.flops([10]) == pytest.approx(counter.get_total_flops())


def test_the_hot_loop_reads_nothing_but_what_transformers_asks_of_the_padding() -> None:
    stage = finetuning(SHAPE, SHAPE.examples(60), 3, 40, compiled=False)
    stage.advance(0)
    counted = len(stage.weights.named)  # a CPU's fused AdamW reads every parameter's count of steps, a GPU's does not
    wanted = {"aten::_local_scalar_dense": gpu.PROFILED * (1 + counted)}
    assert waits(stage, 1) == {**dict.fromkeys(gpu.WAITS, 0), **wanted}
