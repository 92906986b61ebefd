"""Cascade Mask R-CNN as AS-MLP and Swin have it: four convolutions in each box head, and GIoU as its loss."""

_base_ = ["mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py"]

model = {
    "roi_head": {
        "bbox_head": [
            {
                "type": "ConvFCBBoxHead",
                "num_shared_convs": 4,
                "num_shared_fcs": 1,
                "in_channels": 256,
                "conv_out_channels": 256,
                "fc_out_channels": 1024,
                "roi_feat_size": 7,
                "num_classes": 80,
                "bbox_coder": {
                    "type": "DeltaXYWHBBoxCoder",
                    "target_means": [0.0, 0.0, 0.0, 0.0],
                    "target_stds": [deviation, deviation, 2 * deviation, 2 * deviation],
                },
                "reg_class_agnostic": False,
                "reg_decoded_bbox": True,
                "norm_cfg": {"type": "SyncBN", "requires_grad": True},
                "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
                "loss_bbox": {"type": "GIoULoss", "loss_weight": 10.0},
            }
            for deviation in (0.1, 0.05, 0.033)
        ]
    }
}
