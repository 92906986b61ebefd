"""Entry points of `torch.hub.load("OWNER/mlpzoo", NAME, ...)`: one a model, with the options of `create_model`.

`torch.hub.help` shows what a model is; `torch.hub.list` lists their names.
"""

import functools as _functools

import mlpzoo as _mlpzoo

dependencies = ["torch", "torchvision", "timm", "einops"]


def _entrypoint(name):
    @_functools.wraps(_mlpzoo.create_model)
    def create(pretrained=False, **options):
        return _mlpzoo.create_model(name, pretrained=pretrained, **options)

    return create


globals().update({name: _entrypoint(name) for name in _mlpzoo.list_models()})
