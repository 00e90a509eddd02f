"""Packaging. Installing is optional: everything runs from a checkout once requirements.txt is installed."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(name):
    """The requirements of a file, in order, without comments and without files that it includes."""
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in read(name).splitlines())
    return [line for line in lines if line and not line.startswith("-")]


VERSION = re.search(r'^__version__ = "([^"]+)"', read("realesrgan/__init__.py"), re.MULTILINE).group(1)
TRAIN = requirements("requirements-train.txt")
FACE = [line for line in TRAIN if re.match(r"(torchvision|basicsr|facexlib|gfpgan|scipy)\b", line)]

setup(
    name="realesrgan-directml",
    version=VERSION,
    description="Real-ESRGAN picture upscaling on DirectML (AMD cards on Windows), CUDA and the CPU",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    packages=find_packages(include=["realesrgan", "realesrgan.*"]),
    python_requires=">=3.8",
    install_requires=requirements("requirements.txt"),
    extras_require={
        # On Windows the base requirements bring torch-directml; this one names it for Linux (WSL2) too.
        "directml": ["torch-directml; python_version < '3.13'"],
        "face": FACE,
        "train": TRAIN,
        "video": ["av>=12,!=13.*,!=14.0.*,!=14.1.*"],
        "dev": requirements("requirements-dev.txt"),
    },
    entry_points={"console_scripts": ["realesrgan = realesrgan.cli.commands:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.8",
        "Operating System :: Microsoft :: Windows",
        "Operating System :: POSIX :: Linux",
        "Topic :: Multimedia :: Graphics",
    ],
)
