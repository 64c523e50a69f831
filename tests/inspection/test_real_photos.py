import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from crackclf.images.decode import read_image
from crackclf.inspection.photo import inspect_photo
from crackclf.prediction.classifier import load_model

SIDE = 112
UNSEEN = ("slide1342", "slide1398", "slide1529", "slide1594", "slide498")


@pytest.mark.real_data
def test_on_drone_photos_never_seen_the_map_is_higher_where_cracks_are(real_data):
    if not (real_data / "uav").is_dir():
        pytest.skip("CRACKCLF_REAL_DATA holds no uav/")
    classifier, cracked, scores = load_model(), [], []
    for name in UNSEEN:
        (file,) = (real_data / "uav" / "images").glob(f"{name}.*")
        (mask_file,) = (real_data / "uav" / "masks").glob(f"{name}.*")
        mask = read_image(mask_file)[..., 0] > 127
        probability = inspect_photo(file, classifier).probability
        log_odds = Image.fromarray(np.log(probability) - np.log1p(-probability))
        fine = np.asarray(log_odds.resize(mask.shape[::-1], Image.Resampling.BILINEAR))
        for top in range(0, mask.shape[0] - SIDE + 1, SIDE):
            for left in range(0, mask.shape[1] - SIDE + 1, SIDE):
                square = np.s_[top : top + SIDE, left : left + SIDE]
                if mask[square].mean() == 0 or mask[square].mean() >= 0.003:
                    cracked.append(mask[square].any())
                    scores.append(fine[square].mean())
    assert roc_auc_score(cracked, scores) > 0.8
