"""Export a network to ONNX, for any size of picture, and check it with onnxruntime against torch.

    python scripts/export_onnx.py --model RealESRGAN_x4plus --output RealESRGAN_x4plus.onnx
    python scripts/export_onnx.py --model experiments/smoke/models/net_g_latest.pth --output smoke.onnx

Input and output: (1, 3, height, width) RGB in [0, 1], float32. Height and width are multiples of what is printed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from realesrgan.errors import InputError, RealESRGANError, one_line

__all__ = ["difference", "export", "main"]

OPSETS = range(11, 21)  # older ones cannot enlarge to any size; newer ones this exporter does not know


def export(network: Any, path: Path, multiple: int, opset: int = 17) -> None:
    """Write ``network`` with free height and width.

    Raises:
        RealESRGANError: The package onnx is missing, there is no such ``opset``, or the file cannot be written.
    """
    import torch

    if opset not in OPSETS:
        raise InputError(f"--opset is a number from {OPSETS[0]} to {OPSETS[-1]}, not {opset}")
    try:
        import onnx  # noqa: F401 - the exporter needs it at its very end
    except ImportError as error:
        raise RealESRGANError(f"exporting needs another package ({error}): pip install onnx onnxruntime") from error
    example = torch.rand(1, 3, 8 * multiple, 8 * multiple)
    axes = {2: "height", 3: "width"}
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(), torch.no_grad():
            # The exporter by tracing gives free sizes and needs no package but onnx. It says that it is old.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.eval(),
                (example,),
                str(partial),
                opset_version=opset,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": axes, "output": {2: "height_out", 3: "width_out"}},
                dynamo=False,
            )
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {one_line(error)}") from error
    finally:
        if partial.exists():
            partial.unlink()


def difference(network: Any, path: Path, multiple: int) -> float:
    """The largest difference of onnxruntime from torch on two sizes that were not the example's.

    Raises:
        RealESRGANError: onnxruntime is not installed.
    """
    import torch

    try:
        import onnxruntime
    except ImportError as error:
        raise RealESRGANError("checking needs onnxruntime: pip install onnxruntime, or give --no_check") from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for height, width in ((5 * multiple, 11 * multiple), (16 * multiple, 7 * multiple)):
        picture = torch.rand(1, 3, height, width, generator=generator)
        with torch.no_grad():
            expected = network(picture)
        found = torch.from_numpy(session.run(None, {"input": picture.numpy()})[0])
        if found.shape != expected.shape:
            raise RealESRGANError(f"the export gives {tuple(found.shape)} where torch gives {tuple(expected.shape)}")
        worst = max(worst, (found - expected).abs().max().item())
    return worst


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True, help="a model's name, or a checkpoint file")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument("--opset", type=int, default=17, help="version of the operators (17)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference from torch to accept (1e-4)")
    parser.add_argument("--no_check", action="store_true", help="do not compare with torch")
    parser.add_argument("--trust-weights", action="store_true", help="load a checkpoint whose origin is not known")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    try:
        from realesrgan.weights import loading as weights

        with tqdm(unit="B", unit_scale=True, disable=None, leave=False, desc=args.model) as bar:
            loaded = weights.load(
                args.model, trust=args.trust_weights, progress=lambda done, _: bar.update(done - bar.n)
            )
        if loaded.spec is None:
            raise InputError(f"{args.model} contains no network that is known here")
        network, multiple = loaded.build(), loaded.spec.network.multiple
        export(network, args.output, multiple, args.opset)
        print(f"{args.output}: sizes in multiples of {multiple}, scale {loaded.spec.scale}")
        if not args.no_check:
            worst = difference(network, args.output, multiple)
            print(f"largest difference of onnxruntime from torch: {worst:.1e}")
            if worst > args.tolerance:
                raise RealESRGANError(f"that is more than {args.tolerance:.1e} (--tolerance): do not use this file")
    except RealESRGANError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
