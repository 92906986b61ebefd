"""Released files into our parameters: safe reading, key maps, conversions, and our own folders."""

from mlpzoo.models import Backbone
from mlpzoo.weights._files import CheckpointError
from mlpzoo.weights.download import cached_path, fetch, fetch_hub
from mlpzoo.weights.exporting import Conversion, convert, data_config, save_safetensors, timm_state_dict
from mlpzoo.weights.folders import CONFIG, read_config, save_folder, weights_file, write_folder
from mlpzoo.weights.identify import Identified, identify_checkpoint
from mlpzoo.weights.loading import LoadReport, load_checkpoint
from mlpzoo.weights.recognize import STATISTICS, recognize
from mlpzoo.weights.released import released_file

Backbone.checkpoint_loader = staticmethod(load_checkpoint)

__all__ = [
    "CONFIG",
    "STATISTICS",
    "CheckpointError",
    "Conversion",
    "Identified",
    "LoadReport",
    "cached_path",
    "convert",
    "data_config",
    "fetch",
    "fetch_hub",
    "identify_checkpoint",
    "load_checkpoint",
    "read_config",
    "recognize",
    "released_file",
    "save_folder",
    "save_safetensors",
    "timm_state_dict",
    "weights_file",
    "write_folder",
]
