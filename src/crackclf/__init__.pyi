from .data.datasets import Datasets as Datasets
from .data.loading import load_datasets as load_datasets
from .data.loading import load_folds as load_folds
from .data.metu import download_metu as download_metu
from .errors import UserError as UserError
from .evaluation import plots as plots
from .evaluation.calibration import Calibration as Calibration
from .evaluation.calibration import calibrate as calibrate
from .evaluation.calibration import choose_region_threshold as choose_region_threshold
from .evaluation.curves import diagnose as diagnose
from .evaluation.curves import read_curves as read_curves
from .evaluation.metrics import compute_report as compute_report
from .evaluation.report import Report as Report
from .export.export import export_model as export_model
from .images.decode import read_image as read_image
from .images.listing import find_images as find_images
from .inspection.folder import inspect_photos as inspect_photos
from .inspection.photo import Inspection as Inspection
from .inspection.photo import inspect_photo as inspect_photo
from .models.augmentation import build_augmentation as build_augmentation
from .models.backbones import BACKBONES as BACKBONES
from .models.classifier import build_model as build_model
from .models.ensemble import build_ensemble as build_ensemble
from .prediction.classifier import Classifier as Classifier
from .prediction.classifier import load_model as load_model
from .prediction.evaluate import evaluate as evaluate
from .prediction.explain import explain as explain
from .prediction.predict import Prediction as Prediction
from .prediction.predict import predict as predict
from .sample.write import write_photos as write_photos
from .sample.write import write_sample as write_sample
from .saved.card import Card as Card
from .saved.store import load_keras_model as load_keras_model
from .saved.store import save_model as save_model
from .training.callbacks import build_callbacks as build_callbacks
from .training.compare import compare as compare
from .training.fit import (
    fine_tune as fine_tune,
)
from .training.fit import (
    predict_features as predict_features,
)
from .training.fit import (
    train as train,
)
from .training.run import train_folder as train_folder
from .training.saving import save_run as save_run
from .training.settings import TrainSettings as TrainSettings

__version__: str
