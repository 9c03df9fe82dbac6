"""What this machine can compute on."""

import ctypes
import importlib.util
import os
import re
import sys
from pathlib import Path


def has_cuda() -> bool:
    """Whether there is a CUDA device and a torch that was built for one. Importing torch to find out takes seconds."""
    torch = importlib.util.find_spec("torch")
    version = Path(torch.origin).with_name("version.py") if torch and torch.origin else None
    built_without = version and version.exists() and re.search(r"^cuda\b.*= None", version.read_text(), re.MULTILINE)
    return not built_without and driver_has_cuda()


def driver_has_cuda() -> bool:
    """Whether the driver has a CUDA device, for whatever torch there is."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False


def device_name() -> str:
    """What results and fingerprints call the device that processes here compute on."""
    if not has_cuda():
        return "cpu"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
