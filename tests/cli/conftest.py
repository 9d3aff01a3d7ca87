"""One hub with a scripted model for all tests of commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel, echo


@pytest.fixture(scope="session")
def _model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        yield model


@pytest.fixture
def model(_model: ScriptedModel) -> Iterator[ScriptedModel]:
    """The model behind the hub; it echoes again after each test."""
    _model.requests.clear()
    yield _model
    _model.behaviour = echo


@pytest.fixture(scope="session")
def hub(_model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("cli") / "data", instance_config("echo-1", _model.url)) as hub:
        yield hub


@pytest.fixture
def data(hub: HubProcess) -> Path:
    """The data folder on which a hub runs."""
    return hub.data_dir
