"""Options that are no options, or reach for folders that are not the training's: refused as what they are."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict

import pytest
from training import require_basicsr, tiny_options

require_basicsr()
pytestmark = pytest.mark.train

from support import bounded  # noqa: E402
from support.hostile_options import HOSTILE  # noqa: E402

from realesrgan.errors import InputError  # noqa: E402
from realesrgan.models import options as reader  # noqa: E402
from realesrgan.models import setup  # noqa: E402
from realesrgan.train import main  # noqa: E402


def test_files_that_are_no_options(tmp_path: Path) -> None:
    good = tmp_path / "good.yml"
    good.write_text("name: a\n", encoding="utf-8")
    for name, data in HOSTILE.items():
        (tmp_path / f"{name}.yml").write_bytes(data)
    paths = [str(tmp_path / f"{name}.yml") for name in HOSTILE]
    done = bounded.run("support.hostile_options:load", paths, seconds=2, megabytes=300, first=str(good))
    answers = {name: outcome.answer for name, outcome in zip(HOSTILE, done)}
    # A number of many digits is one for Python 3.11, whose limit says so in its own words, and for others a large one.
    assert {name for name, answer in answers.items() if answer != "refused"} <= {"digits"}


@pytest.mark.parametrize("entry", ["train:total_iter=[1", "name=!!python/name:os.system", "name=&a [*a]", "scale=\x00"])
def test_overrides_that_are_no_yaml(entry: str) -> None:
    with pytest.raises(InputError, match="force_yml"):
        reader.override(tiny_options(), [entry])


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "..",
        ".",
        "/tmp/x",
        "a/../../b",
        "C:\\x",
        "C:x",
        "\\\\host\\share",
        "a\\..\\..\\b",
        "",
        " ",
        "a\nb",
        "x" * 300,
        5,
        None,
        ["a"],
        "con|x",
        "a/",
        "...",
    ],
)
def test_the_name_stays_below_experiments(here: Path, name: Any, capsys: pytest.CaptureFixture[str]) -> None:
    victim = here.parent / "x"
    victim.mkdir(exist_ok=True)
    (victim / "file").write_text("mine", encoding="utf-8")
    options = tiny_options()
    options["name"] = name
    with pytest.raises(InputError, match="name"):
        reader.check_keys(options)
    assert (victim / "file").read_text(encoding="utf-8") == "mine"


def test_a_link_in_experiments_does_not_lead_out(here: Path) -> None:
    (here / "elsewhere").mkdir()
    (here / "experiments").mkdir()
    (here / "experiments" / "link").symlink_to(here / "elsewhere", target_is_directory=True)
    options = tiny_options()
    options.update(name="link/inside", rank=0, dist=False)
    with pytest.raises(InputError, match="not below"):
        setup.derive(options, here)


@pytest.mark.parametrize("key", ["experiments_root", "models", "training_states", "log", "visualization"])
@pytest.mark.parametrize("model", ["RealESRGANModel", "MyModel"])
def test_path_names_no_folders(key: str, model: str) -> None:
    options = tiny_options()
    options["model_type"] = model
    options["path"][key] = "/"
    with pytest.raises(InputError, match=f"path:{key}"):
        reader.check_keys(options)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("datasets", "x"),
        ("datasets", {"train": "x"}),
        ("datasets", {"train": None}),
        ("path", 5),
        ("train", [1]),
        ("network_g", "RRDBNet"),
        ("network_g", {"type": ["a"]}),
        ("logger", None),
        ("val", 3),
        ("scale", "x"),
        ("train", {"total_iter": 1, "optim_g": "Adam", "scheduler": "x"}),
        ("model_type", ["x"]),
    ],
)
def test_sections_of_another_form(here: Path, section: str, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    options = tiny_options()
    options[section] = value
    (here / "odd.yml").write_text(yaml.safe_dump(options), encoding="utf-8")
    assert main(["-opt", "odd.yml"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (here / "experiments").exists()


def test_keys_of_a_class_of_the_users_own_cause_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    options: Dict[str, Any] = tiny_options()
    options["my_weight"] = 0.5
    with pytest.raises(InputError, match="my_weight"):
        reader.check_keys(options)
    options["model_type"] = "MyModel"
    options["datasets"]["train"].update(type="MyDataset", my_folder="x")
    with caplog.at_level(logging.WARNING, logger="basicsr"):
        reader.check_keys(options)
    assert "my_weight" in caplog.text and "my_folder" in caplog.text
