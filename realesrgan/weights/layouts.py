"""Layouts of checkpoints: where in a file the state dict is, and which other names its parameters go by.

Only names are changed here; whether the parameters are a network's is decided by their shapes
(:func:`realesrgan.weights.zoo.recognise`).
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, TypeVar

__all__ = ["WRAPPERS", "own_names", "state_dict_in", "without_prefix"]

Value = TypeVar("Value")

#: Keys under which training programs put a state dict, best first: an averaged network before the trained one.
WRAPPERS = ("params_ema", "params", "g_ema", "state_dict", "model_state_dict", "model", "generator", "netG", "net_g")
# Before every name: of wrappers for several cards and for torch.compile, of the network's own place in a larger one.
_PREFIXES = ("module.", "_orig_mod.", "params_ema.", "params.", "state_dict.", "generator.", "netG.", "net_g.", "net.")
# Such a prefix is removed also where others (a discriminator's) are beside it.
_SELECTING = frozenset(["params_ema.", "params.", "generator.", "netG.", "net_g."])
_DEEPEST = 4

_SEQUENTIAL = re.compile(r"model\.(\d+)\.(weight|bias)")
# Old names of an RRDBNet -> its own. The first pair is ESRGAN's first release, the second its later one.
_RENAMED: Tuple[Tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(old), new)
    for old, new in (
        (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3."),
        (r"model\.1\.sub\.\d+\.(?=(?:weight|bias)$)", "conv_body."),
        (r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)\.", r"body.\1.rdb\2.conv\3."),
        (r"trunk_conv\.", "conv_body."),
        (r"upconv(\d)\.", r"conv_up\1."),
        (r"HRconv\.", "conv_hr."),
    )
)


def state_dict_in(content: Any, is_tensor: Callable[[Any], bool]) -> Optional[Dict[str, Any]]:
    """The tensors by name inside what a file contains, out of wrappers; None if there is no state dict.

    Plain values beside the tensors (an iteration, a name) are left out.
    """
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            return None
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = {str(key): value for key, value in content.items() if is_tensor(value)}
    others = [value for value in content.values() if not is_tensor(value)]
    plain = all(value is None or isinstance(value, (str, int, float)) for value in others)
    return tensors if tensors and plain else None


def without_prefix(state: Mapping[str, Value]) -> Dict[str, Value]:
    """The parameters without what programs put before all their names, such as ``module.``."""
    found = dict(state)
    for _ in range(_DEEPEST):
        prefix = next((prefix for prefix in _candidates(found) if _applies(prefix, found)), None)
        if prefix is None:
            break
        found = {key[len(prefix) :]: value for key, value in found.items() if key.startswith(prefix)}
    return found


def _candidates(state: Mapping[str, Value]) -> Tuple[str, ...]:
    # "model." is also the beginning of the names of ESRGAN's first release.
    return _PREFIXES if any(map(_SEQUENTIAL.fullmatch, state)) else (*_PREFIXES, "model.")


def _applies(prefix: str, state: Mapping[str, Value]) -> bool:
    having = sum(key.startswith(prefix) for key in state)
    return having > 0 and (having == len(state) or prefix in _SELECTING)


def own_names(state: Mapping[str, Value]) -> Dict[str, Value]:
    """The parameters of an RRDBNet by its own names where they go by older ones; others as they are."""
    renamed: Dict[str, Value] = {}
    last: List[int] = sorted({int(found.group(1)) for found in map(_SEQUENTIAL.fullmatch, state) if found})
    for key, value in state.items():
        found = _SEQUENTIAL.fullmatch(key)
        if found is not None:
            key = f"{_place(last.index(int(found.group(1))), len(last))}.{found.group(2)}"
        for old, new in _RENAMED:
            key, count = old.subn(new, key, count=1) if old.match(key) else (key, 0)
            if count:
                break
        renamed[key] = value
    return renamed if len(renamed) == len(state) else dict(state)


def _place(position: int, count: int) -> str:
    """Name of a convolution outside of an RRDBNet's blocks by its place among ``count`` of them, in forward order."""
    if position == 0:
        return "conv_first"
    if position == count - 1:
        return "conv_last"
    return "conv_hr" if position == count - 2 else f"conv_up{position}"
