"""Makes PyPI's torchvision importable beside PyTorch's CPU build: two operators are declared, not implemented. For peers only."""

import torch

library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
