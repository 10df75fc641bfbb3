"""Names and ids of fixed characters hold no line feed, not even at their end."""

from pathlib import Path

import pytest

from sluicegate.errors import InvalidSettings
from sluicegate.settings import load_settings

NAMED = 'name = "{name}"\nkind = "openai"\nurl = "http://127.0.0.1:1/v1"\nmodels = ["m"]\n'


@pytest.mark.parametrize("text", ["[[backends]]\n" + NAMED, '[tiers."{name}"]\nweight = 1\n'])
@pytest.mark.parametrize(("name", "is_fit"), [("gpu-1", True), ("gpu-1\\n", False), ("\\ngpu", False), ("a b", False)])
def test_a_name_in_the_settings_is_one_word(tmp_path: Path, text: str, name: str, is_fit: bool) -> None:
    file = tmp_path / "sluicegate.toml"
    file.write_text(text.format(name=name))
    if is_fit:
        load_settings(file, environment={})
        return
    with pytest.raises(InvalidSettings):
        load_settings(file, environment={})
