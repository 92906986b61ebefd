"""torchvision's detectors on networks of the zoo build, take a step and answer."""

import copy

import pytest
import torch
from dense.networks import assert_features_are_the_authors, assert_learns, features_case, small
from torch import nn

from mlpzoo.dense import fpn_backbone
from mlpzoo.tasks import build_detector, check_targets
from mlpzoo.tasks.detectors import check_images

KINDS = ("retinanet", "fcos", "fasterrcnn", "maskrcnn")
ONE_STAGE = ("retinanet", "fcos")
SIZES = ((130, 171), (160, 96))


def build(kind: str, family: str = "cyclemlp", *, num_classes: int = 3, **options) -> nn.Module:
    name, network = small(family)
    sizes = {"min_size": 160, "max_size": 200}
    return build_detector(
        kind, name, num_classes, backbone_options={"out_channels": 32, **network}, **{**sizes, **options}
    )


def images() -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.rand(3, *size, generator=draw) for size in SIZES]


def target(size: tuple[int, int], objects: int = 2) -> dict[str, torch.Tensor]:
    boxes = torch.tensor([[4.0, 6.0, 60.0, 70.0], [20.0, 30.0, 90.0, 120.0]])[:objects].reshape(-1, 4)
    return {
        "boxes": boxes,
        "labels": torch.tensor([1, 2])[:objects],
        "masks": torch.ones(objects, *size, dtype=torch.uint8),
    }


@pytest.mark.parametrize("family", ["cyclemlp", "mixer"])
@pytest.mark.parametrize("kind", KINDS)
def test_step_and_answer(kind, family):
    detector = build(kind, family)
    losses = detector(images(), [target(SIZES[0]), target(SIZES[1], 0)])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert_learns(detector.backbone)
    before = copy.deepcopy(detector.state_dict())
    torch.optim.SGD(detector.parameters(), 1e-3).step()
    assert any(not torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    detector.eval()
    with torch.no_grad():
        answers = detector(images())
    assert [set(answer) >= {"boxes", "labels", "scores"} for answer in answers] == [True, True]
    for answer, (height, width) in zip(answers, SIZES, strict=True):
        assert answer["boxes"].isfinite().all()
        if len(answer["boxes"]):
            assert answer["boxes"][:, 2].max() <= width
            assert answer["boxes"][:, 3].max() <= height
        if kind == "maskrcnn":
            assert answer["masks"].shape == (len(answer["boxes"]), 1, height, width)


@pytest.mark.parametrize("kind", KINDS)
def test_no_objects_at_all(kind):
    """A background image teaches what is not there."""
    detector = build(kind)
    losses = detector(images(), [target(size, 0) for size in SIZES])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in detector.parameters())
    assert any(p.grad is not None and p.grad.any() for p in detector.backbone.parameters())


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_a_detector_can_overfit_one_image(kind):
    """Gradients of the right sign: the loss on one batch falls."""
    detector = build(kind)
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-3)
    batch = images()[:1], [target(SIZES[0])]
    losses = []
    # RetinaNet's loss may stand still for a while: of three seeds on two PyTorches, the slowest lost a quarter.
    for _ in range(100):
        loss = sum(detector(*batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_levels(kind):
    maps = build(kind).backbone(torch.zeros(1, 3, 256, 256))
    strides = [256 // y.shape[2] for y in maps.values()]
    assert strides == ([8, 16, 32, 64, 128] if kind in ONE_STAGE else [4, 8, 16, 32, 64])


def test_images_are_normalized_as_the_network_was_trained():
    assert build("fcos", "mixer").transform.image_mean == [0.5, 0.5, 0.5]
    assert build("fcos").transform.image_std == [0.229, 0.224, 0.225]
    assert build("fcos", image_mean=[0.0, 0.0, 0.0]).transform.image_mean == [0.0, 0.0, 0.0]


def test_images_of_one_channel():
    name, network = small("cyclemlp", in_chans=1)
    detector = build_detector("fcos", name, 3, backbone_options={"out_channels": 32, **network}, min_size=128)
    grey = [image[:1] for image in images()]
    sum(detector(grey, [target(size) for size in SIZES]).values()).backward()
    assert detector.transform.image_mean == [pytest.approx((0.485 + 0.456 + 0.406) / 3)]


def test_a_backbone_of_ones_own():
    name, network = small("vit")
    backbone = fpn_backbone(name, out_channels=16, window=True, frozen_stages=1, **network)
    detector = build_detector("fasterrcnn", backbone, 3, min_size=96, max_size=128)
    sum(detector(images(), [target(size) for size in SIZES]).values()).backward()
    assert_learns(detector.backbone)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("yolo", "cyclemlp_b1", 2), {}, ValueError, "unknown detector 'yolo': choose one of 'retinanet', 'fcos'"),
        (("fcos", "cyclemlp_b1", 1), {}, ValueError, "num_classes counts the background, so it must be 2 or more"),
        (("fcos", "cyclemlp_b1", 2), {"min_sise": 3}, TypeError, "fcos has no option 'min_sise'. Its options: anchor"),
        (("maskrcnn", "cyclemlp_b1", 2), {"topk_candidates": 3}, TypeError, "maskrcnn has no option 'topk_candidates'"),
        (("fcos", nn.Identity(), 2), {}, ValueError, "Identity does not say its out_channels"),
        (("fcos", nn.Identity(), 2), {"backbone_options": {"a": 1}}, TypeError, "this one is built already"),
        (("fcos", "cyclemlp_b9", 2), {}, ValueError, "unknown model 'cyclemlp_b9'"),
        (("fcos", "cyclemlp_b1", 2), {"backbone_options": {"out_indices": (7,)}}, ValueError, "out of range"),
    ],
    ids=str,
)
def test_unusable_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        build_detector(*arguments, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": torch.tensor([[4.0, 6.0, 300.0, 40.0]] * 2)}, "target 0 has a box outside of its image of 130×171"),
        ({"boxes": torch.tensor([[-9.0, 6.0, 30.0, 40.0]] * 2)}, "target 0 has a box outside of its image"),
        ({"boxes": torch.tensor([[0.1, 0.2, 0.5, 0.9]] * 2)}, "boxes of target 0 look normalized, .*give left, top"),
        ({"boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2)}, "look normalized"),
        (
            {"boxes": torch.tensor([[50.0, 60.0, 20.0, 30.0]] * 2)},
            r"a box without area: .*got \[50.0, 60.0, 20.0, 30.0\]",
        ),
        ({"boxes": torch.tensor([[50.0, 60.0, 50.0, 90.0]] * 2)}, "a box without area"),
        ({"boxes": torch.full((2, 4), float("nan"))}, "boxes of target 0 hold NaN or infinity"),
        ({"boxes": torch.zeros(2, 5)}, r"must be floating point \(objects, 4\)"),
        ({"boxes": torch.zeros(0)}, r"torch.zeros\(0, 4\) for none; got torch.float32 \(0,\)"),
        ({"boxes": torch.ones(2, 4, dtype=torch.int64)}, "must be floating point"),
        ({"labels": torch.tensor([1])}, r"labels of target 0 must be torch.int64 \(2,\), one a box"),
        ({"labels": torch.tensor([1.0, 2.0])}, "labels of target 0 must be torch.int64"),
        ({"labels": torch.tensor([0, 1])}, "labels of target 0 must be from 1 to 2, for 0 is the background; got 0"),
        ({"labels": torch.tensor([1, 3])}, "must be from 1 to 2, .* got 1 to 3"),
        ({"masks": torch.ones(2, 5, 5)}, r"masks of target 0 must be \(2, 130, 171\); got \(2, 5, 5\)"),
    ],
    ids=str,
)
def test_targets_that_do_not_fit_are_refused(change, message):
    targets = [{**target(SIZES[0]), **change}, target(SIZES[1])]
    with pytest.raises(ValueError, match=message):
        check_targets(images(), targets, num_classes=3, masks=True)
    detector = build("maskrcnn")
    with pytest.raises(ValueError, match=message):
        detector(images(), targets)
    with pytest.raises(ValueError, match=message):
        detector(images=images(), targets=targets)


def test_missing_targets_and_masks():
    with pytest.raises(ValueError, match="got 2 images and 1 targets: each image needs one"):
        check_targets(images(), [target(SIZES[0])], num_classes=3)
    without = [{key: value for key, value in target(size).items() if key != "masks"} for size in SIZES]
    check_targets(images(), without, num_classes=3)
    with pytest.raises(ValueError, match="target 0 has no masks"):
        check_targets(images(), without, num_classes=3, masks=True)


def test_images_that_are_none():
    detector = build("fcos").eval()
    with pytest.raises(ValueError, match="a detector takes a list of images"):
        detector([torch.zeros(1, 3, 64, 64)])
    assert len(detector(torch.zeros(2, 3, 64, 64))) == 2, "a batch is a list of images"


BAD_IMAGES = {
    "none": (lambda x: [], "one image or more"),
    "an empty tuple": (lambda x: (), "one image or more"),
    "a string": (lambda x: ["a.png"], "image 0 is str"),
    "an array": (lambda x: [x[0].numpy()], "image 0 is ndarray"),
    "gray": (lambda x: [x[0], x[1][:1]], "image 1 has 1 channels, but this detector takes 3"),
    "transparent": (lambda x: [torch.cat([x[0], x[0][:1]])], "image 0 has 4 channels"),
    "channels last": (lambda x: [x[0].permute(1, 2, 0)], "image 0 has 130 channels"),
    "bytes": (lambda x: [(255 * x[0]).byte()], "image 0 holds torch.uint8, .*: divide by 255"),
    "0 to 255": (lambda x: [x[0], 255 * x[1]], r"image 1 holds values from .* to 2\d\d.*: divide by 255"),
    "normalized": (lambda x: [(x[0] - 0.5) / 0.25], "image 0 holds values from -.*leave out the normalization"),
    "a little above": (lambda x: [x[0] + 0.02], "image 0 holds values"),
    "NaN": (lambda x: [x[0] * float("nan")], "image 0 holds values from nan to nan"),
    "no pixels": (lambda x: [x[0][:, :0]], r"image 0 is empty: \(3, 0, 171\)"),
}


@pytest.fixture(scope="module")
def fcos():
    return build("fcos")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_images_that_would_be_taken_for_others(fcos, bad, training):
    spoil, message = BAD_IMAGES[bad]
    given = spoil(images())
    targets = [target(SIZES[0]), target(SIZES[1])][: len(given)]
    with pytest.raises(ValueError, match=message):
        fcos.train(training)(given, targets if training else None)


def test_images_that_are_as_they_should_be(fcos):
    # Rounding, and types of half precision, are no reason to refuse.
    check_images([images()[0] * 1.0005, torch.zeros(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bfloat16).float()])
    check_images([torch.ones(3, 2, 2, dtype=torch.float16), torch.zeros(3, 2, 2, dtype=torch.float16)], channels=3)
    with pytest.raises(ValueError, match="training needs targets, one for each image"):
        fcos.train()(images())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_checks(kind):
    with pytest.raises(ValueError, match="one image or more"):
        build(kind).eval()([])


def test_features_are_the_authors(tmp_path):
    """The conformance vectors of the authors' backbone, through the body of a detector."""
    name, options, x = features_case(tmp_path)
    backbone = fpn_backbone(name, **options).eval()
    with torch.no_grad():
        assert_features_are_the_authors(backbone.body(x))
        assert [y.shape[1] for y in backbone(x).values()] == [256] * 5
