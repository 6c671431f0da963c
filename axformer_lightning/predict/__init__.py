"""`python -m axformer_lightning.predict`: what a saved or exported model says of texts."""

from axformer_lightning.predict.engines import Engine, load_engine
from axformer_lightning.predict.predictor import Predictor, load_predictor

__all__ = ["Engine", "Predictor", "load_engine", "load_predictor"]
