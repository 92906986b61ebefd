"""mlpzoo: MLP-like vision backbones in PyTorch, exact to their authors' code.

Importing it registers every model with timm under its own name.
"""

from mlpzoo import _startup
from mlpzoo._version import __version__

# False only in a process of the `mlpzoo` command, until a verb runs.
if not _startup.import_is_deferred:
    from mlpzoo import layers, models, ops
    from mlpzoo.registry import ModelInfo, create_model, list_models, list_pretrained, model_info, register_all
    from mlpzoo.transforms import create_transform
    from mlpzoo.weights import (
        CheckpointError,
        LoadReport,
        convert,
        identify_checkpoint,
        load_checkpoint,
        timm_state_dict,
    )

    register_all()

__all__ = [
    "CheckpointError",
    "LoadReport",
    "ModelInfo",
    "__version__",
    "convert",
    "create_model",
    "create_transform",
    "identify_checkpoint",
    "layers",
    "list_models",
    "list_pretrained",
    "load_checkpoint",
    "model_info",
    "models",
    "ops",
    "timm_state_dict",
]
