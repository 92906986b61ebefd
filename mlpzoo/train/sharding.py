"""Weights and optimizer state gathered as a single process would have them, from whole copies or from shards."""

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn


def full_state(
    accelerator: Accelerator, model: nn.Module, optimizer: Any
) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Gather weights and, if given, an optimizer's state; with shards, only the main process gets them.

    Args:
        accelerator: that prepared both.
        model: the prepared network.
        optimizer: the prepared optimizer, or None.

    Returns:
        The weights by their plain names, and the optimizer's state dict or None.
    """
    if not accelerator.is_fsdp2:
        plain = accelerator.unwrap_model(model).state_dict()
        return plain, None if optimizer is None else optimizer.state_dict()
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_model_state_dict,
        get_optimizer_state_dict,
    )

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)
    state = None if optimizer is None else get_optimizer_state_dict(model, optimizer.optimizer, options=options)
    return _arrived(weights), None if state is None else _arrived(state)


def _arrived(value: Any) -> Any:
    """Nested dictionaries and lists with asynchronous tensors replaced by plain ones."""
    if isinstance(value, dict):
        return {key: _arrived(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_arrived(inner) for inner in value]
    return value.wait() if hasattr(value, "wait") else value


def load_full_state(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, weights: Mapping[str, Tensor], state: dict[str, Any]
) -> None:
    """Load what `full_state` gave; every process must have read it."""
    if not accelerator.is_fsdp2:
        accelerator.unwrap_model(model).load_state_dict(weights)
        optimizer.load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        set_model_state_dict,
        set_optimizer_state_dict,
    )

    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, dict(weights), options=options)
    set_optimizer_state_dict(model, optimizer.optimizer, state, options=options)
