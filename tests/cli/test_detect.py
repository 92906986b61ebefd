import json

import pytest
import torch
from torch import nn

from mlpzoo.tasks import Detector, DetectorConfig, save_detector


@pytest.fixture(scope="module")
def detector(folder):
    torch.manual_seed(0)
    sizes = {"embed_dims": (16, 16, 16, 16), "depths": (1, 1, 1, 1), "mlp_ratios": (1, 1, 1, 1)}
    detector = Detector(
        DetectorConfig(
            backbone="cyclemlp_b1", backbone_args=sizes, classes=("[bold]cat",), out_channels=32, detections_per_img=3
        )
    )
    # Sure of everything, so that there is something to show.
    nn.init.constant_(detector.model.head.classification_head.cls_logits.bias, 3.0)
    nn.init.constant_(detector.model.head.regression_head.bbox_ctrness.bias, 3.0)
    save_detector(detector, folder / "detector")
    return folder / "detector"


def test_goes_on_past_broken_files(call, folder, detector, tmp_path):
    arguments = ("detect", folder / "broken.png", folder / "red.png", "--checkpoint", detector, "--out", tmp_path)
    status, out, err = call(*arguments)
    assert status == 1
    assert err.count("\n") == 1
    assert "broken.png: it is no image" in err
    assert out.count("[bold]cat") == 3
    assert "red-detected.png" in out
    assert [path.name for path in tmp_path.iterdir()] == ["red-detected.png"]
    status, out, err = call(*arguments[:1], *arguments[2:], "--json")
    assert status == 1
    assert "will not replace" in err
    status, out, err = call(*arguments, "--json", "--overwrite")
    broken, red = json.loads(out)
    assert (broken["boxes"], broken["output"]) == ([], None)
    assert "it is no image" in broken["error"]
    assert red["error"] is None
    assert [box["label"] for box in red["boxes"]] == ["[bold]cat"] * 3
    status, out, _ = call(*arguments[:1], *arguments[2:], "--overwrite", "--score-threshold", 1)
    assert status == 0
    assert "nothing" in out


def test_mistakes(assert_refused, folder, detector):
    image = folder / "red.png"
    assert_refused("detect", image, status=2, message="--checkpoint")
    assert_refused("detect", image, "--checkpoint", folder / "run", status=1, message="which is no detector")
    assert_refused("detect", image, "--checkpoint", folder / "nowhere", status=1, message="holds no config.json")
    assert_refused(
        "detect", image, "--checkpoint", detector, "--score-threshold", 2, status=2, message="score-threshold"
    )
    assert_refused("detect", image, "--checkpoint", detector, "--device", "tpu", status=2, message="device 'tpu'")
    assert_refused("predict", image, "--checkpoint", detector, status=1, message="fcos_cyclemlp_b1")
    assert not (folder / "red-detected.png").exists()
