import sound
from conftest import build_card, build_keras
from crackclf.prediction import load_model
from crackclf.saving import save_model


def test_the_card_gets_a_peak_for_each_drawn_photo_and_the_model_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(sound, "SHAPE", (90, 120))
    folder = save_model(build_keras(), tmp_path / "model", build_card(), {"history.csv": "epoch\n"})
    before = {path: path.read_bytes() for path in folder.iterdir()}
    sound.main(folder, patch_size=40, photos=3, seed=1)
    changed = {path.name for path in folder.iterdir() if path.read_bytes() != before.get(path)}
    assert changed == {"card.json"}
    card = load_model(folder).card
    assert card.patch_size == 40
    assert len(set(card.sound_peaks)) == 3
    assert all(0 < peak < 1 for peak in card.sound_peaks)
