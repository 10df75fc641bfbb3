"""What the built-in models cost, measured with each model in memory, on PNG pictures.

A reference second is one second of one core of an AMD EPYC server processor with AVX2, `threads` 1, the machine idle.
Another processor is faster or slower for all models alike; the store's calibration finds out by how much.

    sprout           20 steps 0.27 s, 50 steps 0.57 s; 10 pictures 2.0 s; enlarged to 512² +0.4 s, to 1024² +3.9 s
    style-transfer   256² 0.07 s, 512² 0.51 s, 1024² 2.1 s, 2048² 3.5 s (painted at 1.5 megapixels at most);
                     in the style of a picture 512² 0.17 s, 2048² 0.74 s
    realesrgan-x2    64² 0.06 s, 256² 0.82 s, 512² 3.3 s
    realesrgan-x4    64² 0.06 s, 256² 0.93 s, 512² 4.2 s
"""

from typing import Final

from sluicegate.domain.generation import CostModel

DRAWING: Final = CostModel(fixed=0.02, step=0.0095, exponent=0.0, pixel=3.6, usual_steps=20, usual_megapixels=2**-6)
REDRAWING: Final = CostModel(fixed=0.05, step=0.0095, exponent=0.0, pixel=3.6, usual_steps=20, usual_megapixels=2**-6)
PAINTING: Final = CostModel(fixed=0.01, step=1.9, exponent=1.1, pixel=0.15, most_megapixels=1.5)
PAINTING_LIKE: Final = CostModel(fixed=0.13, step=0.0, pixel=0.15)
ENLARGING_2: Final = CostModel(fixed=0.01, step=13.0, exponent=1.0, pixel=0.0)
ENLARGING_4: Final = CostModel(fixed=0.01, step=16.0, exponent=1.0, pixel=0.0)
