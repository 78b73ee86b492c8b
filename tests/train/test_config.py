"""Presets, overrides, and errors that name the path and list the choices."""

import pytest

from vice.data_specs.errors import InputError
from vice.train.config_files import load_config, presets


def test_every_preset_is_valid_and_named_as_its_file():
    assert {"scenes-demo", "camvid-cpu"} <= set(presets())
    assert all(config.name == name for name, config in presets().items())


def test_overrides_reach_nested_values_with_their_types():
    config = load_config("camvid-cpu", ["views.num_views=4", "views.resize=[0.7, 1.5]", "model.decoder=deeplabv3plus"])
    assert config.views.num_views == 4 and config.views.resize == (0.7, 1.5)
    assert config.model.decoder == "deeplabv3plus"


def test_a_file_of_ones_own(tmp_path):
    page = tmp_path / "mine.yaml"
    page.write_text("name: mine\nepochs: 2\n")
    assert load_config(str(page)).epochs == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["views.sise=3"], r"unknown setting 'views.sise' \(choices: .*num_views, size"),
        (["model.decoder=unet"], r"'model.decoder': .*'fpn' or 'deeplabv3plus'"),
        (["views.num_views=9"], r"'views.num_views': .*less than or equal to 8"),
        (["views.size=100"], r"'views.size': .*multiple of 32"),
        (["views.regions=slick:20"], r"'method'.*'slic', 'slico', 'opencv-slic', 'opencv-slico' or 'mslic'"),
        (["epochs"], "not an override"),
        (["epochs.x=3"], "'epochs' has no parts"),
        (["views.resize=[2, 1]"], "low <= high"),
    ],
)
def test_wrong_settings_are_told_by_their_path(overrides, message):
    with pytest.raises(InputError, match=message):
        load_config("camvid-cpu", overrides)


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(InputError, match=r"unknown preset: 'camvid'; choose from camvid-cpu, .*scenes-demo"):
        load_config("camvid")
