"""Released files into our parameters: safe reading, key maps, and our own folders."""

from mlpzoo.models import Backbone
from mlpzoo.weights._files import CheckpointError
from mlpzoo.weights.folders import CONFIG, read_config, save_folder, weights_file
from mlpzoo.weights.loading import LoadReport, load_checkpoint

Backbone.checkpoint_loader = staticmethod(load_checkpoint)

__all__ = ["CONFIG", "CheckpointError", "LoadReport", "load_checkpoint", "read_config", "save_folder", "weights_file"]
