"""Where there is no GPU, Triton kernels are run by Triton's interpreter on the CPU.

Triton reads that whenever a kernel is defined, its own among them: importing torch.compile, as trivd does, is too late.
"""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
