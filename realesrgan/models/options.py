"""The options of a training: read from YAML, overridden from the command line, checked key by key.

Names of keys are those of the original project, so its files run. What is not known is refused with the nearest known
name, because a misspelt key would otherwise train for days with a default.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Union

import yaml

from realesrgan.data import KERNEL_KEYS
from realesrgan.errors import InputError, one_line

__all__ = ["check_components", "check_keys", "load", "override", "value_at"]

Options = Dict[str, Any]

LOGGER = logging.getLogger("basicsr")

# Of an options file: the largest here has 100 lines.
_MOST_BYTES = 1_000_000
_MOST_VALUES = 100_000
_DEEPEST = 40

OWN_MODELS = ("RealESRGANModel", "RealESRNetModel")
OWN_DATASETS = ("RealESRGANDataset", "RealESRGANPairedDataset", "PairedImageDataset")


TOP_KEYS = (
    "name model_type scale num_gpu manual_seed datasets network_g network_d path train val logger dist_params "
    "find_unused_parameters queue_size gt_size gt_usm l1_gt_usm percep_gt_usm gan_gt_usm high_order_degradation "
    "second_blur_prob"
)
# Of a stage of the degradation, beside KERNEL_KEYS; those of the second stage end in 2.
STAGE_KEYS = "resize_prob resize_range gaussian_noise_prob noise_range poisson_scale_range gray_noise_prob jpeg_range"
# What each section may contain. The sections that are handed to a class or function as its arguments (networks, losses,
# optimisers, schedulers, measures) are checked against its signature instead: see check_components.
SECTIONS = {
    "path": "pretrain_network_g param_key_g strict_load_g pretrain_network_d param_key_d strict_load_d resume_state "
    "ignore_resume_networks",
    "train": "ema_decay optim_g optim_d scheduler total_iter warmup_iter net_d_iters net_d_init_iters pixel_opt "
    "perceptual_opt gan_opt",
    "val": "val_freq save_img pbar metrics suffix",
    "logger": "print_freq save_checkpoint_freq use_tb_logger wandb",
    "logger:wandb": "project resume_id",
    "dist_params": "backend port",
}
DATASET_KEYS = (
    "name type dataroot_gt dataroot_lq meta_info meta_info_file filename_tmpl io_backend gt_size crop_pad_size "
    "use_hflip use_rot use_shuffle mean std color num_worker_per_gpu batch_size_per_gpu dataset_enlarge_ratio "
    "prefetch_mode num_prefetch_queue pin_memory persistent_workers textures final_sinc_prob"
)
DATASET_SECTIONS = {"io_backend": "type", "textures": "count size seed"}
REQUIRED = (
    "name model_type scale num_gpu datasets datasets:train network_g path train train:total_iter train:optim_g "
    "train:scheduler logger:print_freq logger:save_checkpoint_freq datasets:train:batch_size_per_gpu"
)


def _with_stages(keys: str, of_a_stage: str) -> List[str]:
    return [*keys.split(), *of_a_stage.split(), *(f"{key}2" for key in of_a_stage.split())]


def value_at(options: Options, where: str) -> Any:
    """The value of an option such as ``"train:optim_g:type"``; None if there is none."""
    value: Any = options
    for key in where.split(":"):
        value = value.get(key) if isinstance(value, dict) else None
    return value


class _Loader(yaml.SafeLoader):
    """YAML in which ``1e-4`` is a number (plain YAML 1.1 wants ``1.0e-4``) and a key may occur only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool, type(None))):
                raise InputError(
                    f"line {key_node.start_mark.line + 1}: the name of an option is a word, not {key!r:.60}"
                )
            if key in seen:
                raise InputError(f"option {key!r} occurs twice, the second time in line {key_node.start_mark.line + 1}")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load(path: Union[str, Path]) -> Options:
    """The options in a YAML file.

    Raises:
        InputError: There is no such file, it is no YAML of options, or it contains a key twice.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the options {path}: {one_line(error)}") from error
    if len(data) > _MOST_BYTES:
        raise InputError(f"{path} is too large for a file of options: more than {_MOST_BYTES} bytes")
    options = _parsed(data, str(path))
    if not isinstance(options, dict):
        raise InputError(f"{path} contains no options: a YAML file of 'key: value' lines is needed (see options/)")
    return options


def _parsed(text: Union[str, bytes], where: str) -> Any:
    """The value that YAML describes.

    Raises:
        InputError: It is not valid, or grows beyond any options by references to itself.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        _measure(value, [0], 0)
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        reason = one_line(error)[:300]
        raise InputError(f"{where} is not valid YAML: {reason}") from error
    return value


def _measure(value: Any, count: List[int], depth: int) -> None:
    """Raises ValueError where references make few lines endless; each mention of a value counts."""
    count[0] += 1
    if count[0] > _MOST_VALUES or depth > _DEEPEST:
        raise ValueError("its references grow beyond any options")
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            _measure(inner, count, depth + 1)


def override(options: Options, entries: Iterable[str]) -> None:
    """Set values from entries such as ``train:ema_decay=0.99``, in place. The section must be there.

    Raises:
        InputError: An entry without "=", or a section that is not in the options.
    """
    for entry in entries:
        keys, separator, text = entry.partition("=")
        if not separator:
            raise InputError(f"--force_yml needs KEY[:KEY...]=VALUE, not {entry!r}")
        *sections, last = (key.strip() for key in keys.split(":"))
        section: Any = options
        for depth, name in enumerate(sections):
            if not isinstance(section, dict) or name not in section:
                known = list(section) if isinstance(section, dict) else []
                raise InputError(_unknown(":".join(sections[: depth + 1]), name, known, "--force_yml: "))
            section = section[name]
        if not isinstance(section, dict):
            raise InputError(f"--force_yml: {':'.join(sections)} is a value, not a section")
        text = text.strip()
        section[last] = None if text.lower() == "none" else _parsed(text, f"--force_yml {entry!r:.80}")


def _unknown(where: str, key: str, known: Iterable[str], prefix: str = "") -> str:
    candidates = sorted(str(name) for name in known)
    nearest = max(candidates, key=lambda name: difflib.SequenceMatcher(None, str(key), name).ratio(), default=None)
    hint = f"; the nearest known one is {nearest!r}" if nearest else ""
    return f"{prefix}unknown option {where!r}{hint}"


def _refuse_unknown(section: Any, known: Iterable[str], where: str, strict: bool = True) -> None:
    if section is None:
        return
    if not isinstance(section, dict):
        raise InputError(f"option {where!r} is a section of options, not {section!r:.80}")
    for key in section:
        if key not in known:
            sentence = _unknown(f"{where}:{key}" if where else str(key), key, known)
            if strict:
                raise InputError(sentence)
            LOGGER.warning(f"{sentence}; it is left to your own class")


def check_keys(options: Options) -> None:
    """Refuse keys that are unknown and say which are missing.

    Where the model or a data set is a class of the user's own, its section may hold keys of its own: they cause a
    warning only. ``path`` is always strict, because it names folders.

    Raises:
        InputError: With the key, and the nearest known one or where it belongs.
    """
    strict = options.get("model_type") in (None, *OWN_MODELS)
    _refuse_unknown(options, _with_stages(TOP_KEYS, STAGE_KEYS), "", strict)
    for name in REQUIRED.split():
        if value_at(options, name) is None:
            raise InputError(f"option {name!r} is missing (the files in options/ show where it belongs)")
    for where, known in SECTIONS.items():
        _refuse_unknown(value_at(options, where), known.split(), where, strict or where == "path")
    of_datasets = _with_stages(DATASET_KEYS, KERNEL_KEYS)
    for phase, dataset in options["datasets"].items():
        if str(phase).split("_")[0] not in ("train", "val"):
            raise InputError(f"option 'datasets:{phase}': a data set is 'train', or 'val', or begins with 'val_'")
        if not isinstance(dataset, dict):
            raise InputError(f"option 'datasets:{phase}' is a section of options, not {dataset!r:.80}")
        _refuse_unknown(dataset, of_datasets, f"datasets:{phase}", dataset.get("type") in OWN_DATASETS)
        for key, known in DATASET_SECTIONS.items():
            _refuse_unknown(dataset.get(key), known.split(), f"datasets:{phase}:{key}")
    _check_name(options["name"])
    if type(options["scale"]) is not int or options["scale"] < 1:
        raise InputError(f"option 'scale' is a whole number from 1, not {options['scale']!r:.80}")


def _check_name(name: Any) -> None:
    """The experiment's name becomes folders below ``experiments`` and ``tb_logger``, and nothing outside of them."""
    parts = re.split(r"[/\\]", name) if isinstance(name, str) else []
    odd = any(
        part.strip(" .") == "" or part != part.strip() or re.search(r'[\x00-\x1f<>:"|?*]', part) for part in parts
    )
    if not parts or odd or len(name) > 200:
        raise InputError(f"option 'name' is the name of a folder below experiments, not {name!r:.120}")


def _check_arguments(section: Any, thing: Any, where: str, given: Sequence[str] = ()) -> None:
    """Refuse what ``thing`` does not take as an argument; ``given`` are the arguments that training passes itself."""
    parameters = inspect.signature(thing).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # it accepts anything
    takes = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    _refuse_unknown(section, ["type", *(name for name in takes if name not in given)], where)


def _look_up(section: Any, registry: Any, where: str) -> Any:
    kind = section.get("type") if isinstance(section, dict) else None
    names = [name[: -len("_basicsr")] if name.endswith("_basicsr") else name for name, _ in registry]
    if kind not in names:
        raise InputError(_unknown(f"{where}:type: {kind}", str(kind), names))
    return registry.get(kind)


def check_components(options: Options) -> None:
    """Check types and arguments of networks, losses, optimisers, schedulers, data sets and measures.

    To be called after :func:`realesrgan.models.compat.register`.

    Raises:
        InputError: An unknown type or argument, with the nearest known one.
    """
    from basicsr.models import lr_scheduler
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
    from torch.optim import Adam

    _look_up({"type": options["model_type"]}, MODEL_REGISTRY, "model_type")
    for phase, dataset in options["datasets"].items():
        _look_up(dataset, DATASET_REGISTRY, f"datasets:{phase}")
    built = [(f"network_{key}", ARCH_REGISTRY) for key in "gd"]
    built += [(f"train:{key}_opt", LOSS_REGISTRY) for key in ("pixel", "perceptual", "gan")]
    for where, registry in built:
        section = value_at(options, where)
        if section is not None:
            _check_arguments(section, _look_up(section, registry, where), where)
    for where in ("train:optim_g", "train:optim_d"):
        section = value_at(options, where)
        if section is not None:
            if section.get("type") != "Adam":
                raise InputError(f"option '{where}:type' is Adam, the one optimiser there is here")
            _check_arguments(section, Adam, where, ("params",))
    schedules = {
        "MultiStepLR": lr_scheduler.MultiStepRestartLR,
        "MultiStepRestartLR": lr_scheduler.MultiStepRestartLR,
        "CosineAnnealingRestartLR": lr_scheduler.CosineAnnealingRestartLR,
    }
    scheduler = value_at(options, "train:scheduler")
    kind = scheduler.get("type")
    if kind not in schedules:
        raise InputError(_unknown(f"train:scheduler:type: {kind}", str(kind), schedules))
    _check_arguments(scheduler, schedules[kind], "train:scheduler", ("optimizer",))
    for name, metric in (value_at(options, "val:metrics") or {}).items():
        where = f"val:metrics:{name}"
        known = list(inspect.signature(_look_up(metric, METRIC_REGISTRY, where)).parameters)
        _refuse_unknown(metric, ["type", "better", *known], where)
