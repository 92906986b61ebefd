"""Functions on tensors: the fast ones are exported, each one's reference twin stands beside it in its own file."""

from mlpzoo.ops.resize import resize_input_tokens, resize_output_tokens
from mlpzoo.ops.token_linear import token_linear

__all__ = ["resize_input_tokens", "resize_output_tokens", "token_linear"]
