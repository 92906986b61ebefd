"""Released weights as data, and from a server to a model."""

import http.server
import re
import threading

import numpy as np
import pytest
import timm
import torch

import mlpzoo
from mlpzoo import CheckpointError
from mlpzoo.models import FAMILIES, families
from mlpzoo.weights import cached_path

RELEASED = [(family, tagged, weights) for family in families() for tagged, weights in family.weights.items()]


@pytest.mark.parametrize(("family", "tagged", "weights"), RELEASED, ids=[tagged for _, tagged, _ in RELEASED])
def test_tables_are_sound(family, tagged, weights):
    assert tagged.split(".")[0] in family.variants
    assert [bool(weights.url), bool(weights.hub), bool(weights.where)].count(True) == 1
    assert not weights.url or re.fullmatch(r"https://[\w.-]+/[!-~]+.(npz|pth|pth.tar)", weights.url)
    assert not weights.hub or re.fullmatch(r"[\w.-]+/[\w.-]+", weights.hub)
    assert weights.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", weights.sha256)
    assert weights.license
    assert weights.interpolation in ("bicubic", "bilinear")
    assert 0.8 <= weights.crop_pct <= 1
    assert bool(weights.top1) == bool(weights.top1_source)
    assert weights.num_classes in (0, 10, 100, 1000, 11221, 11230, 21843)
    assert set(weights.overrides) <= {"img_size", "act_layer", "representation_size"}


def test_no_file_is_listed_twice():
    places = [weights.url or weights.hub for _, _, weights in RELEASED if not weights.where]
    assert len(places) == len(set(places))


def test_weights_trained_in_pytorch_get_the_exact_gelu():
    for name in ("mixer_b16.miil_in21k_ft_in1k", "vit_ti16.fb_deit_in1k"):
        assert mlpzoo.create_model(name, device="meta").config.act_layer == "gelu"
    for name in ("mixer_b16.goog_in1k", "vit_ti16"):
        assert mlpzoo.create_model(name, device="meta").config.act_layer == "gelu_tanh"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A loopback server of a folder, in place of where Mixer-B/16 is released; PyTorch's cache is empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}", asked
        running.shutdown()


SMALL = {"depth": 1, "embed_dim": 16, "tokens_mlp_dim": 8, "channels_mlp_dim": 24}


@pytest.fixture
def mixer(tmp_path, server, monkeypatch):
    """A small Mixer in the authors' layout, released under two names that share their last part."""
    url, _ = server
    family = FAMILIES["mixer"]
    models = {}
    for folder, tag, classes in (("imagenet1k", "goog_in1k", 1000), ("imagenet21k", "goog_in21k", 21843)):
        model = mlpzoo.create_model("mixer_b16", num_classes=classes, **SMALL)
        torch.nn.init.normal_(model.head.weight)
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "Mixer-B_16.npz", **{k: v.numpy() for k, v in model.state_dict().items()})
        tagged = f"mixer_b16.{tag}"
        weights = type(family.weights[tagged])(
            url=f"{url}/{folder}/Mixer-B_16.npz", license="Apache-2.0", num_classes=classes
        )
        monkeypatch.setitem(family.weights, tagged, weights)
        models[tagged] = model
    return models


def test_downloaded_once_and_kept_apart(mixer, server):
    _, asked = server
    for _ in range(2):
        for tagged, expected in mixer.items():
            model = mlpzoo.create_model(tagged, pretrained=True, **SMALL)
            assert torch.equal(model.head.weight, expected.head.weight)
    assert asked == ["/imagenet1k/Mixer-B_16.npz", "/imagenet21k/Mixer-B_16.npz"]


def test_through_timm_and_at_another_size(mixer):
    model = timm.create_model("mixer_b16", pretrained=True, img_size=(160, 256), num_classes=7, in_chans=1, **SMALL)
    assert model.stem.grid_size == (10, 16)
    expected = mixer["mixer_b16.goog_in1k"]
    torch.testing.assert_close(model.stem.proj.weight, expected.stem.proj.weight.sum(1, keepdim=True))
    features = timm.create_model("mixer_b16", pretrained=True, features_only=True, out_indices=[0], **SMALL)
    assert torch.equal(features.model.stem.proj.weight, expected.stem.proj.weight)


def test_a_folder_of_ones_own_for_downloads(mixer, tmp_path):
    mlpzoo.create_model("mixer_b16", pretrained=True, cache_dir=tmp_path / "mine", **SMALL)
    assert len(list((tmp_path / "mine").rglob("*.npz"))) == 1
    assert not (tmp_path / "cache").exists()


def test_a_server_without_the_file(mixer, tmp_path):
    (tmp_path / "imagenet1k" / "Mixer-B_16.npz").unlink()
    with pytest.raises(CheckpointError, match=r"the server has no such file.*To do it by hand, save the file as"):
        mlpzoo.create_model("mixer_b16", pretrained=True, **SMALL)


def test_a_file_put_there_by_hand(mixer, server, tmp_path):
    url, asked = server
    path = cached_path(f"{url}/imagenet1k/Mixer-B_16.npz")
    path.parent.mkdir(parents=True)
    (tmp_path / "imagenet1k" / "Mixer-B_16.npz").rename(path)
    mlpzoo.create_model("mixer_b16", pretrained=True, **SMALL)
    assert asked == []


def test_files_that_need_a_hand(server, tmp_path):
    """ViP's are on a drive for people: the error says where, and where to put them."""
    place = tmp_path / "cache" / "checkpoints" / "mlpzoo" / "vip_s7.in1k.pth"
    small = {"embed_dims": (8, 16, 16, 16), "depths": (1, 1, 1, 1), "img_size": 56}
    with pytest.raises(
        CheckpointError, match=rf"Google Drive.*VisionPermutator.*save the file as {re.escape(str(place))}"
    ):
        mlpzoo.create_model("vip_s7", pretrained=True, **small)
    expected = mlpzoo.create_model("vip_s7", **small)
    place.parent.mkdir(parents=True)
    torch.save(expected.state_dict(), place)
    model = mlpzoo.create_model("vip_s7", pretrained=True, **small)
    assert torch.equal(model.head.weight, expected.head.weight)


def test_a_source_named_to_timm_is_left_to_timm(tmp_path):
    expected = mlpzoo.create_model("mixer_s32", **SMALL)
    torch.save(expected.state_dict(), tmp_path / "own.pth")
    overlay = {"file": str(tmp_path / "own.pth")}
    model = timm.create_model("mixer_s32", pretrained=True, pretrained_cfg_overlay=overlay, **SMALL)
    assert torch.equal(model.stem.proj.weight, expected.stem.proj.weight)


def test_from_the_hub(tmp_path, monkeypatch):
    """The two files of a repository, as timm pushes them, from a hub that is a folder here."""
    model = mlpzoo.create_model("mixer_s32", num_classes=3, **SMALL)
    timm.models.save_for_hf(model, tmp_path / "repo", model_config={"model_args": SMALL}, safe_serialization=True)
    asked = []

    def download(repository, filename, **options):
        asked.append((repository, filename, options["revision"]))
        return str(tmp_path / "repo" / filename)

    monkeypatch.setattr("mlpzoo.weights.download.hf_hub_download", download)
    loaded = mlpzoo.create_model("hf-hub:someone/small-mixer@v2")
    assert torch.equal(loaded.head.weight, model.head.weight)
    assert asked == [("someone/small-mixer", name, "v2") for name in ("config.json", "model.safetensors")]
    theirs = timm.create_model(f"local-dir:{tmp_path / 'repo'}", pretrained=True)
    assert torch.equal(theirs.head.weight, model.head.weight)
