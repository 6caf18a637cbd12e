"""What the metrics of generated text share: what they take, the tokens that they count, and Java.

`predictions` are texts; `references` a list of one or more texts for each. An empty prediction is scored as empty; an
example without references, or with an empty one, is a ValueError.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from autolora.metrics.base import NeedsJavaError
from autolora.programs import program

# What the PTB tokens are freed of before METEOR, ROUGE-L and CIDEr see them, as in the COCO caption evaluation.
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
NEEDED = "METEOR, ROUGE-L and CIDEr need a Java runtime"
TOKENIZER = ("tokenizer", "stanford-corenlp-3.4.1.jar", "edu.stanford.nlp.process.PTBTokenizer")


def check_texts(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Every example has references, and none of them is empty.

    Raises:
        ValueError: an example has none, or an empty one, or a text where a list of texts belongs.
    """
    for i, texts in enumerate(references, 1):
        if isinstance(texts, str) or not texts:
            raise ValueError(f"example {i}: references must be a list of one or more texts, got {texts!r}")
        if not all(text.strip() for text in texts):
            raise ValueError(f"example {i}: a reference is empty")


def by_position(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """The references as sacrebleu takes them: the first of each example, the second of each, …; None where none."""
    most = max(map(len, references))
    found = [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]
    return cast(list[list[str]], found)  # sacrebleu's annotations leave out the None that it takes


def java() -> str:
    """The Java runtime's path, whether it runs or not. Raises NeedsJavaError where there is none."""
    found = program("java")
    if found is None:
        raise NeedsJavaError(f"{NEEDED} for their tokenizer; none is on PATH")
    return found


def carried(*parts: str) -> Path:
    """A file that pycocoevalcap carries."""
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("pycocoevalcap is not installed")
    return Path(next(iter(spec.submodule_search_locations)), *parts)


def ptb(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Lower-cased PTB tokens without punctuation, joined by spaces."""
    texts = [*predictions, *(text for several in references for text in several)]
    tokens = iter(_ptb(tuple(texts)))
    return [next(tokens) for _ in predictions], [[next(tokens) for _ in several] for several in references]


def coco_score(scorer: Any, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The corpus score of one of pycocoevalcap's scorers, on PTB tokens."""
    outputs, truths = ptb(predictions, references)
    score, _ = scorer.compute_score(dict(enumerate(truths)), {i: [text] for i, text in enumerate(outputs)})
    return float(score)


@lru_cache(maxsize=2)  # three metrics in a row ask for the same texts
def _ptb(texts: tuple[str, ...]) -> tuple[str, ...]:
    folder, jar, name = TOKENIZER
    # pycocoevalcap's own wrapper puts the texts into a file in its package's folder, which may be read-only.
    options = ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    done = subprocess.run(
        [java(), "-Dfile.encoding=UTF-8", "-cp", str(carried(folder, jar)), name, *options],
        input="".join(_line(text) + "\n" for text in texts),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    lines = done.stdout.split("\n")[:-1]
    if done.returncode:
        said = " ".join(done.stderr.split())[:200] or "it says nothing"
        raise NeedsJavaError(f"{NEEDED} for their tokenizer, and {java()} does not run it ({said})")
    if len(lines) != len(texts):
        raise RuntimeError(f"the PTB tokenizer gave {len(lines)} lines for {len(texts)} texts: {done.stderr[-500:]}")
    return tuple(" ".join(token for token in line.split(" ") if token not in PUNCTUATION).strip() for line in lines)


def _line(text: str) -> str:
    """On one line, without what separates METEOR's fields."""
    return " ".join(text.replace("|||", " ").split())


@contextmanager
def one_meteor() -> Iterator[None]:
    """All scores in here are asked of one METEOR, which is begun with the first: it reads its tables for seconds."""
    with ExitStack() as stack:
        token = None if _KEPT.get() else _KEPT.set(_Kept(stack))
        try:
            yield
        finally:
            if token:
                _KEPT.reset(token)


class _Kept:
    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack

    @cached_property
    def process(self) -> subprocess.Popen[str]:
        return self.stack.enter_context(_begun())


_KEPT: ContextVar[_Kept | None] = ContextVar("kept", default=None)


@contextmanager
def meteor_process() -> Iterator[subprocess.Popen[str]]:
    """METEOR 1.5, waiting for lines on its standard input: that of `one_meteor`, or one of its own."""
    if kept := _KEPT.get():
        yield kept.process
    else:
        with _begun() as process:
            yield process


def answers(process: subprocess.Popen[str], line: str, count: int = 1) -> list[str]:
    """What METEOR answers to a line, in lines.

    Args:
        process: It.
        line: What it is asked.
        count: How many lines it answers with.

    Raises:
        NeedsJavaError: It has ended, or did not begin.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        found = [process.stdout.readline() for _ in range(count)]
    except OSError:  # nobody reads
        found = [""]
    if not all(found):
        raise NeedsJavaError(
            f"{NEEDED} that gives METEOR up to 2 GiB of memory, and its process has ended (code {process.wait()})"
        )
    return [each.strip() for each in found]


@contextmanager
def _begun() -> Iterator[subprocess.Popen[str]]:
    """METEOR as pycocoevalcap starts it."""
    jar = carried("meteor", "meteor-1.5.jar")
    process = subprocess.Popen(
        [java(), "-Dfile.encoding=UTF-8", "-jar", "-Xmx2G", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"],
        cwd=jar.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
