"""What fitted students gain by combined instead of leading dimensions in narrow heads.

    NAS_DATA=... python benchmarks/narrow_heads.py --task stsb

Each architecture is fitted twice on the same texts and never trained: its heads with the leading
dimensions of the teacher's, by importance, as before; and with the best combinations of them
(:mod:`supernet.distill.narrow_heads`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from ranking import Lab
from result_files import origin, write_result

from nas.pipeline.recipe import load_recipe
from supernet.architecture import Architecture
from supernet.distill.fitted_start import LayerFit
from supernet.distill.narrow_heads import HeadMaps

RESULTS = Path(__file__).parent / "results"
SHAPES = [  # hidden size, layers, heads, qkv size, intermediate size
    (256, 5, 12, 192, 448),
    (272, 4, 4, 64, 192),
    (96, 6, 6, 96, 384),
    (128, 4, 8, 128, 640),
    (80, 6, 12, 288, 1536),
]


def leading(layer: LayerFit, mean: torch.Tensor) -> HeadMaps:
    """The leading dimensions of each head."""
    sizes, full = layer._sizes, layer._full
    eye = torch.eye(sizes.head_size, full.head_size).to(mean).expand(sizes.num_heads, -1, -1)
    return HeadMaps(eye, eye, eye, eye.mT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="stsb", help="a folder under NAS_DATA")
    parser.add_argument("--recipe", default="standard")
    parser.add_argument("--workspace", type=Path, default=Path("tailorbert-workspace"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lab = Lab.named(arguments.task, load_recipe(arguments.recipe), arguments.workspace)
    evidence = lab.guide.sample
    rows: list[dict[str, Any]] = []
    for hidden, layers, heads, qkv, neurons in SHAPES:
        architecture = Architecture.uniform(
            num_layers=layers, hidden_size=hidden, num_heads=heads, qkv_size=qkv,
            intermediate_size=neurons,
        )  # fmt: skip
        combined = lab.told(lab.fitted(architecture, evidence))
        with patch.object(LayerFit, "_head_maps", leading):
            cut = lab.told(lab.fitted(architecture, evidence))
        rows.append({"architecture": str(architecture), "leading": cut, "combined": combined})
        print(architecture, cut, combined, flush=True)
    path = RESULTS / f"narrow_heads-{arguments.task}.json"
    content = origin("cpu-1-thread") | {
        "texts": len(evidence.texts),
        "teacher": lab.told(lab.guide.supernet.weights),
        "rows": rows,
    }
    write_result(path, content)


if __name__ == "__main__":
    main()
