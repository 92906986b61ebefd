"""The files released for ViT: the authors', all in one bucket, and DeiT's.

Names are from the authors' `vit_jax.ipynb` (c6de1e5), which lists the bucket, and from timm's tables of the AugReg
files. Where a tag ends in a number, that is the resolution; where it does not, it is 224.
"""

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from mlpzoo.models._family import Weights

BUCKET = "https://storage.googleapis.com/vit_models"
TIMM = "timm's results-imagenet.csv at aa4b585"

# Variant, pre-training, learning rate of fine-tuning, top-1 by resolution: the files that timm's tables name.
AUGREG = (
    ("vit_ti16", "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "0.03", {224: 75.45, 384: 78.44}),
    ("vit_s32", "S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", "0.03", {224: 76.01, 384: 80.48}),
    ("vit_s16", "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", "0.03", {224: 81.40, 384: 83.81}),
    ("vit_s16", "S_16-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0", "0.01", {224: 78.84, 384: 81.13}),
    ("vit_b32", "B_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0", "0.03", {224: 80.73}),
    ("vit_b32", "B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0", "0.03", {384: 83.36}),
    ("vit_b32", "B_32-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.1-sd_0.1", "0.01", {224: 74.91, 384: 78.75}),
    ("vit_b16", "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", "0.01", {224: 84.53, 384: 86.01}),
    ("vit_b16", "B_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1", "0.01", {224: 79.15, 384: 81.10}),
    ("vit_b8", "B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", "0.01", {224: 85.84}),
    ("vit_l16", "L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1", "0.01", {224: 85.86, 384: 87.10}),
    ("vit_r_ti16", "R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "0.03", {224: 71.80, 384: 75.96}),
    ("vit_r26_s32", "R26_S_32-i21k-300ep-lr_0.001-aug_light0-wd_0.03-do_0.1-sd_0.1", "0.03", {224: 81.86}),
    ("vit_r26_s32", "R26_S_32-i21k-300ep-lr_0.001-aug_medium2-wd_0.03-do_0.0-sd_0.0", "0.03", {384: 84.07}),
    ("vit_r50_l32", "R50_L_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1", "0.01", {224: 84.43}),
    ("vit_r50_l32", "R50_L_32-i21k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0", "0.01", {384: 86.19}),
)
# The paper's own fine-tuned files: name, variant, resolution, top-1 where timm measured it.
FINE_TUNED = (
    ("ViT-B_16-224", "vit_b16", 224, 81.78),
    ("ViT-B_16", "vit_b16", 384, 84.21),
    ("ViT-B_32", "vit_b32", 384, None),
    ("ViT-B_8", "vit_b8", 384, None),
    ("ViT-L_16-224", "vit_l16", 224, None),
    ("ViT-L_16", "vit_l16", 384, None),
    ("ViT-L_32", "vit_l32", 384, 81.51),
    ("R50+ViT-B_16", "vit_r50_b16", 384, 84.99),
)
# The paper's own pre-trained files: name, variant, units of the representation layer. Their heads hold zeros.
PRETRAINED = (
    ("ViT-B_32", "vit_b32", 768),
    ("ViT-B_16", "vit_b16", 768),
    ("ViT-B_8", "vit_b8", 768),
    ("ViT-L_32", "vit_l32", 1024),
    ("ViT-L_16", "vit_l16", 1024),
    ("ViT-H_14", "vit_h14", 1280),
    ("R26+ViT-B_32", "vit_r26_b32", 768),
    ("R50+ViT-B_16", "vit_r50_b16", 768),
)
# Trained on ImageNet-1k alone with sharpness-aware minimization (arXiv:2106.01548): name, variant, top-1.
SAM = (
    ("ViT-B_32", "vit_b32", 73.70),
    ("ViT-B_16", "vit_b16", 80.25),
    ("ViT-L_32", "vit_l32", None),
    ("ViT-L_16", "vit_l16", None),
)
# DeiT without distillation (arXiv:2012.12877), trained in PyTorch and so with GELU in its exact form: file, variant,
# top-1.
DEIT = (
    ("deit_tiny_patch16_224-a1311bcf", "vit_ti16", 72.19),
    ("deit_small_patch16_224-cd65a155", "vit_s16", 79.86),
    ("deit_base_patch16_224-b5f2ef4d", "vit_b16", 81.98),
)


def _file(path: str, resolution: int = 224, top1: float | None = None, **options: Any) -> Weights:
    if resolution != 224:
        options["overrides"] = {"img_size": resolution}
    return Weights(
        url=f"{BUCKET}/{path}.npz",
        license="Apache-2.0",
        top1=top1,
        top1_source=TIMM if top1 else "",
        crop_pct=0.9 if resolution == 224 else 1.0,
        **options,
    )


def _released() -> dict[str, Weights]:
    """Every file; a variant's first is its default."""
    files = {}
    for variant, pretraining, lr, scores in AUGREG:
        data = "in1k" if "-i1k-" in pretraining else "in21k_ft_in1k"
        for side, top1 in scores.items():
            path = f"augreg/{pretraining}--imagenet2012-steps_20k-lr_{lr}-res_{side}"
            files[f"{variant}.augreg_{data}{_suffix(side)}"] = _file(path, side, top1)
        if data == "in21k_ft_in1k":
            # Where two pre-trainings are listed, this becomes the one that was fine-tuned at 384.
            files[f"{variant}.augreg_in21k"] = _file(f"augreg/{pretraining}", num_classes=21843)
    for name, variant, side, score in FINE_TUNED:
        files[f"{variant}.orig_in21k_ft_in1k{_suffix(side)}"] = _file(f"imagenet21k+imagenet2012/{name}", side, score)
    for name, variant, size in PRETRAINED:
        overrides = {"representation_size": size}
        files[f"{variant}.orig_in21k"] = _file(f"imagenet21k/{name}", num_classes=0, overrides=overrides)
    for name, variant, score in SAM:
        files[f"{variant}.sam_in1k"] = _file(f"sam/{name}", top1=score)
    for name, variant, score in DEIT:
        files[f"{variant}.fb_deit_in1k"] = Weights(
            url=f"https://dl.fbaipublicfiles.com/deit/{name}.pth",
            license="Apache-2.0",
            top1=score,
            top1_source=TIMM,
            overrides={"act_layer": "gelu"},
            mean=IMAGENET_DEFAULT_MEAN,
            std=IMAGENET_DEFAULT_STD,
            crop_pct=0.9,
        )
    return files


def _suffix(resolution: int) -> str:
    return "" if resolution == 224 else f"_{resolution}"


RELEASED = _released()
