"""The student that comes with srec: its card and its name. That it ranks better than chance is held by README's example."""

import pytest

from srec.card import read_card
from srec.lm.checkpoint import obtain
from srec.lm.lora import CARD_FILE, digest_of_lora, folder_of, obtain_lora

pytest.importorskip("torch", reason="the extra `local` is not installed")
pytest.importorskip("peft", reason="the extra `local` is not installed")

pytestmark = pytest.mark.model

NAME = "toyshop-student"


def test_its_card_tells_of_its_numbers_and_of_the_base_that_comes_with_srec():
    lora = obtain_lora(NAME, base=obtain("srec-tiny"))
    card = read_card(lora.folder / CARD_FILE)
    assert card["digest"] == lora.digest == digest_of_lora(lora.folder)
    assert card["data"]["stages"]["scoring.judge"] > 1000


def test_a_folder_of_the_name_comes_before_it(tmp_path, monkeypatch):
    shipped = folder_of(NAME)
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    assert folder_of(NAME) == (tmp_path / NAME).resolve() != shipped
    assert folder_of(f"./{NAME}") != shipped
