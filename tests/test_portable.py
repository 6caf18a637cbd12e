"""Nothing in the package is for one system only, outside of a guard: no call, no module, no default of Linux's.

The rules walk the source, so that they hold for what is written next; beside them is what can be tried on any system.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from autolora.files import is_path
from autolora.runs.manifest import peak_memory_mib
from autolora.training.checkpoint import load_checkpoint, save_checkpoint
from autolora.training.compute import Compute
from autolora.training.seeds import kept_generators

PACKAGE = Path(__file__).resolve().parents[1] / "autolora"

MODULES = {
    *("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "curses", "readline"),
    *("msvcrt", "winreg", "winsound", "_winapi"),
}
# What os and signal lack on Windows, or on macOS.
LACKING = {
    "os": re.compile(
        r"fork\w*|killpg|set(sid|pgid|uid|gid|euid|egid|groups|priority)|get(pgid|pgrp|sid|uid|euid|gid|egid|groups|loadavg"
        r"|priority|random|xattr)|uname|nice|sched_\w+|mk(fifo|nod)|l?chown|fch\w+|chroot|f?statvfs|f?pathconf|sysconf"
        r"|wait[34]?|WIF\w+|p(read|write)v?|posix_\w+|sendfile|splice|eventfd\w*|memfd_create|pidfd_open"
        r"|register_at_fork|\w+xattr|O_(DIRECTORY|NOFOLLOW|CLOEXEC|DIRECT|D?SYNC|NONBLOCK)|link|symlink"
    ),
    "signal": re.compile(
        r"SIG(KILL|HUP|QUIT|ALRM|USR[12]|CHLD|PIPE|STOP|CONT|TSTP|WINCH)|alarm|setitimer|pause|sig(wait\w*|interrupt|pending|timedwait)|pthread_\w+"
    ),
    "time": re.compile(r"tzset|clock_(get|set)\w+"),
    "select": re.compile(r"poll|epoll|kqueue"),
    "socket": re.compile(r"AF_UNIX"),
}
GUARDS = re.compile(r"os\.name|sys\.platform|platform\.system|hasattr|get_all_start_methods")
CAUGHT = re.compile(r"ImportError|AttributeError|OSError|NotImplementedError|ValueError")


def faults(source: str) -> list[str]:
    """What in a file is of one system, each as "line: what"."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        for said, guardable in rules(node):
            if not (guardable and guarded(node, parents)):
                found.append(f"{node.lineno}: {said}")
    return found


def rules(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """What is wrong with a node, and whether a guard around it makes it right."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        yield from ((f"imports {name}", True) for name in names if name.partition(".")[0] in MODULES)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        lacking = LACKING.get(node.value.id)
        if lacking is not None and lacking.fullmatch(node.attr):
            yield f"{node.value.id}.{node.attr}", True
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if re.match(r"/(proc|sys|dev|tmp|etc)/", node.value):
            yield f"the path {node.value}", True
        if "%H:" in node.value:
            yield "a time with colons, which no name of a file may have", False
    if isinstance(node, ast.Call):
        yield from of_call(node)


def of_call(node: ast.Call) -> Iterator[tuple[str, bool]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    mode = text_mode(node, name, owner, given)
    if mode is not None and "encoding" not in given:
        yield "text without encoding=", False
    if mode is not None and set(mode) & set("wax+") and "newline" not in given:
        yield "text that is written without newline=", False
    if owner == "subprocess" or (name == "partial" and node.args and "subprocess" in ast.unparse(node.args[0])):
        if None in given:
            yield "a process with **arguments, whose encoding cannot be seen", False
        if {"text", "universal_newlines"} & given.keys() and "encoding" not in given:
            yield "a process's text without encoding=", False
        if {"preexec_fn", "start_new_session", "process_group"} & given.keys():
            yield "a process begun in a way of POSIX", True
    if name in ("symlink_to", "hardlink_to", "lchmod"):
        yield name, True
    if name in ("get_context", "set_start_method") and [a for a in node.args if getattr(a, "value", "") != "spawn"]:
        yield "a way of starting processes that is not everywhere", True
    if name == "double" and isinstance(node.func, ast.Attribute) and not owner.endswith(".cpu()"):
        yield "float64 before .cpu(): Apple's GPUs have none", False
    if "device" in given and "dtype" in given and "float64" in ast.unparse(given["dtype"]):
        yield "float64 on a device: Apple's GPUs have none", False


def text_mode(node: ast.Call, name: str, owner: str, given: dict[str | None, ast.expr]) -> str | None:
    """The mode in which a call opens a text file; None where it opens none."""
    if name in ("read_text", "write_text"):
        return name[0]
    if name == "TextIOWrapper":
        return "r"
    if name not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile") or (owner == "os" and name == "open"):
        return None
    place = 1 if name in ("open", "fdopen") and owner in ("", "os", "io", "gzip", "bz2", "lzma") else 0
    default = {"open": "r", "fdopen": "r"}.get(name, "w+b")
    mode = given.get("mode", node.args[place] if len(node.args) > place else ast.Constant(default))
    if not isinstance(mode, ast.Constant):
        return None  # an `open` of something else: Run.open(path)
    return mode.value if isinstance(mode.value, str) and "b" not in mode.value else None


def guarded(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether it runs only where the system was asked, or what it lacks is caught."""
    while (parent := parents.get(node)) is not None:
        if isinstance(parent, ast.If | ast.IfExp) and GUARDS.search(ast.unparse(parent.test)):
            return True
        if (
            isinstance(parent, ast.Try)
            and node in parent.body
            and any(handler.type is None or CAUGHT.search(ast.unparse(handler.type)) for handler in parent.handlers)
        ):
            return True
        if isinstance(parent, ast.With) and "suppress(" in ast.unparse(parent.items[0]):
            return True
        if isinstance(parent, ast.FunctionDef) and before(node, parent):
            return True
        node = parent
    return False


def before(node: ast.AST, function: ast.FunctionDef) -> bool:
    """Whether the function has returned or raised by then, where the system lacks what comes."""
    for statement in function.body:
        if statement is node:
            return False
        asks = isinstance(statement, ast.If) and GUARDS.search(ast.unparse(statement.test)) is not None
        if asks and isinstance(statement.body[-1], ast.Return | ast.Raise):
            return True
    return False


def test_no_file_is_for_one_system() -> None:
    found = {path: faults(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    assert len(found) > 300
    assert not {path.relative_to(PACKAGE).as_posix(): said for path, said in found.items() if said}


@pytest.mark.parametrize(
    "source",
    [
        "import resource",
        "from fcntl import flock",
        "def f():\n    import termios",
        "os.kill(pid, signal.SIGKILL)",
        "os.getuid()",
        "os.open(path, os.O_DIRECTORY)",
        "Path('/proc/self/status').exists()",
        "open('/dev/null', 'rb')",
        "path.read_text()",
        "path.write_text(text, encoding='utf-8')",
        "path.open()",
        "open(path)",
        "open(path, 'w', encoding='utf-8')",
        "path.open('a', encoding='utf-8')",
        "os.fdopen(handle, 'w')",
        "tempfile.NamedTemporaryFile('w')",
        "io.TextIOWrapper(raw)",
        "subprocess.run(command, text=True)",
        "subprocess.Popen(command, **options)",
        "subprocess.Popen(command, start_new_session=True)",
        "link.symlink_to(there)",
        "multiprocessing.get_context('fork')",
        "f'{now:%H:%M}.log'",
        "tensor.double()",
        "tensor.double().cpu()",
        "torch.zeros(3, dtype=torch.float64, device=device)",
    ],
)
def test_what_is_of_one_system_is_found(source: str) -> None:
    assert faults(source)


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import resource\nexcept ImportError:\n    resource = None",
        "if os.name == 'posix':\n    os.killpg(group, signal.SIGKILL)",
        "if hasattr(os, 'sched_getaffinity'):\n    os.sched_getaffinity(0)",
        "def f():\n    if sys.platform == 'win32':\n        return None\n    return os.getuid()",
        "with suppress(OSError):\n    Path('/proc/cpuinfo').read_text(encoding='utf-8')",
        "path.open('rb')",
        "open(path, mode='xb')",
        "Run.open(path)",
        "path.open(encoding='utf-8')",
        "path.write_text(text, encoding='utf-8', newline='\\n')",
        "os.fdopen(handle, 'wb')",
        "subprocess.run(command, capture_output=True)",
        "multiprocessing.get_context('spawn')",
        "tensor.cpu().double()",
        "torch.zeros(3, dtype=torch.float64)",
    ],
)
def test_what_is_of_every_system_is_left_alone(source: str) -> None:
    assert not faults(source)


BLOCKED = """\
import builtins
there = builtins.__import__
def imported(name, globals=None, *more, **named):
    own = str((globals or {}).get("__name__")).startswith(("autolora", "filelock"))
    if own and name in ("fcntl", "resource", "pwd", "grp", "termios"):
        raise ModuleNotFoundError(name)
    return there(name, globals, *more, **named)
builtins.__import__ = imported
from autolora.cli import main
main()
"""


def test_a_run_needs_no_module_of_posix(laboratory: Path, tmp_path: Path) -> None:
    recipe = str(laboratory / "tiny.yaml")
    options = ["--output", str(tmp_path), "--set", "search.steps=2", "--set", "retrain.steps=2"]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "run", recipe, *options],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("tiny/*/adapter/adapter_config.json"))


def test_where_the_system_says_no_peak_of_memory_the_process_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert peak_memory_mib(cpu)["process"] > 10
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory_mib(cpu) == {}
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: SimpleNamespace(peak_wset=3 * 1024**2))
    assert peak_memory_mib(cpu) == {"process": 3.0}


@pytest.mark.parametrize(
    "name", ["C:\\models\\bert", "c:/models/bert", "\\\\server\\share\\bert", "./m", "/m", "~/m", ".\\m"]
)
def test_a_path_is_told_from_a_name_of_the_hub_on_every_system(name: str) -> None:
    assert is_path(name)
    assert not is_path("FacebookAI/roberta-base")
    assert not is_path("bert-base-uncased")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what a process has mapped")
def test_a_checkpoint_that_was_read_is_not_held_open(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    save_checkpoint(file, {"w": torch.ones(100_000)}, {"step": 1})
    tensors, _ = load_checkpoint(file)
    assert tensors["w"].sum() == 100_000
    assert str(file) not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_sums_are_not_kept_in_float64_where_there_is_none() -> None:
    compute = Compute("float32", cpu=True)
    assert compute.exact_device.type == "cpu"
    compute.device = torch.device("mps")
    assert compute.exact_device.type == "cpu"
    compute.device = torch.device("cuda", 0)
    assert compute.exact_device == torch.device("cuda", 0)


def test_the_generator_of_an_apple_gpu_is_put_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    state = [torch.tensor([1], dtype=torch.uint8)]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: state[0].clone())
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda found: state.__setitem__(0, found))
    put_back = kept_generators()
    expected = torch.rand(3)
    state[0] = torch.tensor([2], dtype=torch.uint8)
    put_back()
    assert state[0].item() == 1
    assert torch.equal(torch.rand(3), expected)
