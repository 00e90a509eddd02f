"""``realesrgan doctor``: what this machine can do, what is missing, and the next step.

Runs where neither torch nor numpy can be imported.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from realesrgan.cli import messages
from realesrgan.cli.console import Console
from realesrgan.cli.options import Parser
from realesrgan.errors import Phrase
from realesrgan.files import atomic
from realesrgan.files.paths import real
from realesrgan.tools import ROOT
from realesrgan.tools.doctor import checks
from realesrgan.tools.doctor.facts import gather
from realesrgan.tools.doctor.probe import unpack

__all__ = ["BROKEN", "LIMITS", "READY", "Scrubber", "diagnose", "main", "report", "sentences", "verdict"]

READY, LIMITS, BROKEN = 0, 1, 2
_MARKS = {checks.NOTE: "-", checks.LIMIT: "!", checks.PROBLEM: "X"}
_EMPTY = Phrase("", "")
# What is left after the known folders: a drive, a share, or a path from the root with two parts at least.
_PATH = re.compile(r"""(?<![\w/\\.:<>])(?:[A-Za-z]:[\\/]|\\\\|~[\\/]|/(?=[^\s/'"]+/))[^\s'"<>|*?;,:()]*""", re.VERBOSE)
# A home that is not named by the environment; users' names may have spaces.
_HOMES = re.compile(
    r"""(?:[A-Za-z]:[\\/]+Users|(?<![\w.])/(?:home|Users))[\\/]+[^\\/"'<>|:*?,;\n]+(?=[\\/])""", re.IGNORECASE
)
# Folders of the user's own say something about the user too, and may have spaces in their names.
_BELOW = re.compile(r"""(<home>|<working\ folder>)[\\/](?:[^"'<>|:;,\n]*[\\/])?""", re.VERBOSE)
# A user may be called "user" or "home".
_LABELS = r"<(?:home|machine|path|program|python|temporary|user|working folder)>"
_NAMES = ("USER", "USERNAME", "LOGNAME", "COMPUTERNAME", "HOSTNAME", "USERDOMAIN", "SUDO_USER")
_VERDICTS = {READY: "ready", LIMITS: "limits", BROKEN: "broken"}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; gives 0 where all is ready, 1 with limits, 2 where nothing works."""
    options = _parser().parse_args(argv)
    console = Console(options.lang or messages.system_language(), options.verbose)
    facts = gather(options.device)
    findings = checks.judge(facts)
    if options.json:
        # ASCII, so that any console and any pipe accepts it.
        print(json.dumps(report(facts, findings), indent=1))
    else:
        for line in sentences(facts, findings):
            console.show(line)
    status = diagnose(facts, findings)
    if options.report is None:
        return status
    try:
        _write(options.report, report(facts, findings))
    except OSError as error:
        console.say(
            "doctor.unwritable",
            "The report cannot be written to {path}: {reason}.",
            path=options.report,
            reason=error,
        )
        return BROKEN
    if not options.json:
        console.say(
            "doctor.written",
            "The report is in {path}; it contains no names and no folders of yours.",
            path=options.report,
        )
    return status


def _parser() -> Parser:
    parser = Parser(
        prog="realesrgan doctor",
        description="Says what this machine can do, what is missing, and the next step.",
        epilog="Exit status: 0 ready, 1 works with limits, 2 does not work.",
    )
    parser.add_argument(
        "--device", help="examine this device: directml, dml:1, cuda, cpu ... (default: a run's choice)"
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the JSON to a file, to be sent to somebody")
    parser.add_argument("--lang", choices=messages.LANGUAGES, help="language (default: the system's)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show more of the library's own lines")
    return parser


def diagnose(facts: Mapping[str, Any], findings: List[checks.Finding]) -> int:
    """The exit status: :data:`READY`, :data:`LIMITS` or :data:`BROKEN`."""
    gravest = max((finding.severity for finding in findings), default=checks.NOTE)
    if gravest == checks.PROBLEM or checks.working(facts) is None:
        return BROKEN
    return LIMITS if gravest == checks.LIMIT else READY


def report(facts: Mapping[str, Any], findings: List[checks.Finding]) -> Dict[str, Any]:
    """What ``--json`` and ``--report`` give, without anything private."""
    status = diagnose(facts, findings)
    listed = []
    for finding in findings:
        what, step = checks.said(finding)
        severity = ("note", "limit", "problem")[finding.severity]
        listed.append({"code": finding.code, "severity": severity, "text": str(what), "next": str(step)})
    document = {"verdict": _VERDICTS[status], "status": status, "findings": listed, "facts": dict(facts)}
    scrubbed: Dict[str, Any] = Scrubber().value(document)
    return scrubbed


def _write(path: Path, document: Mapping[str, Any]) -> None:
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    atomic.write_atomically(path, lambda stream: stream.write(text.encode("utf-8")))


def sentences(facts: Mapping[str, Any], findings: List[checks.Finding]) -> List[Phrase]:
    """What is printed: the facts as a table, each finding with its next step, the verdict."""
    rows = [*_about_machine(facts), *_about_devices(facts), *_about_files(facts)]
    width = max(len(label) for label, _ in rows)
    said = [
        messages.phrase("doctor.row", "{label}  {text}", label=f"{label:{width}}", text=text) for label, text in rows
    ]
    said.append(_EMPTY)
    for finding in findings:
        what, step = checks.said(finding)
        said.append(messages.phrase("doctor.what", "{mark} {what}.", mark=_MARKS[finding.severity], what=what))
        said.append(messages.phrase("doctor.step", "  next: {step}", step=step))
    said.append(_EMPTY)
    said.append(verdict(facts, findings))
    return said


def verdict(facts: Mapping[str, Any], findings: List[checks.Finding]) -> Phrase:
    """Ready, ready with limits, or not working."""
    status, taken = diagnose(facts, findings), checks.working(facts)
    if status == BROKEN or taken is None:
        return Phrase(
            "doctor.broken",
            "DOES NOT WORK YET. Do the steps marked with X above, from top to bottom, and run the doctor again.",
        )
    name = next((each["name"] for each in facts["devices"]["list"] if each["spec"] == taken["device"]), "")
    precision = "FP32, FP16" if (taken.get("fp16") or {}).get("ok") else "FP32"
    fields = {"device": taken["device"], "name": name, "precision": precision}
    if status == READY:
        return messages.phrase("doctor.ready", "READY: {device} ({name}), {precision}.", **fields)
    return messages.phrase(
        "doctor.limits",
        "WORKS WITH LIMITS: {device} ({name}), {precision}. What limits it is marked with ! above.",
        **fields,
    )


#: A label, and a text or a phrase.
Row = Tuple[str, str]


def _about_machine(facts: Mapping[str, Any]) -> List[Row]:
    system, python = facts["system"], facts["python"]
    build = f" build {system['build']}" if system["build"] else ""
    memory = f", {_gigabytes(system['memory'])}" if system["memory"] else ""
    wsl = " (WSL)" if system["wsl"] else ""
    rows = [
        ("realesrgan", facts["version"]),
        ("system", f"{system['name']} {system['release']}{build}{wsl}, {system['machine']}{memory}"),
        ("Python", f"{python['version']}, {python['bits']} bit{', own environment' if python['environment'] else ''}"),
    ]
    for name, result in facts["imports"].items():
        if result["ok"]:
            extra = f" (CUDA {result['cuda']})" if result.get("cuda") else ""
            adapters = f", {result['adapters']} adapters" if "adapters" in result else ""
            version = result["version"] or facts["packages"].get(name.replace("_", "-")) or ""
            rows.append((f"import {name}", f"ok, {version}{extra}{adapters}".replace("ok, ,", "ok,")))
        elif result["error"] == "missing":
            rows.append((f"import {name}", "not installed"))
        else:
            rows.append((f"import {name}", " ".join(filter(None, (result["error"], result.get("reason"))))))
    if facts["ended"]:
        rows.append((facts["ended"]["step"], f"the process ended, status {facts['ended']['status']}"))
    return rows


def _about_devices(facts: Mapping[str, Any]) -> List[Row]:
    rows = [("adapter", _card(each)) for each in facts["adapters"]]
    rows += [("nvidia-smi", _card(each)) for each in facts["nvidia"] or ()]
    listing = facts["devices"] or {"list": [], "notes": []}
    rows += [(each["spec"], _card(each)) for each in listing["list"]]
    rows += [(f"no {each['backend']}", unpack(each)) for each in listing["notes"]]
    for test in facts["tests"]:
        if not test["ok"]:
            rows.append(("test", messages.phrase("doctor.test_failed", "failed: {reason}", reason=unpack(test))))
            continue
        half = test.get("fp16") or {}
        parts = [f"{test['device']} with {test['model']} ({test['weights']})", f"FP32 {_result(test['fp32'])}"]
        parts.append(f"FP16 {_result(half)}" if half.get("ok") else "FP16 not used")
        rows.append(("test picture", ", ".join(parts)))
    return rows


def _result(run: Mapping[str, Any]) -> str:
    return f"off by {run['largest']} of 255 at most, {run['seconds'] * 1000:.0f} ms"


def _card(card: Mapping[str, Any]) -> str:
    parts = [card["name"]]
    if card["memory"]:
        parts.append(_gigabytes(card["memory"]))
    if card["driver"]:
        parts.append(f"driver {card['driver']}")
    parts += [word for word in ("integrated", "software") if card.get(word)]
    return ", ".join(parts)


def _about_files(facts: Mapping[str, Any]) -> List[Row]:
    rows = []
    for entry in facts["weights"]:
        if entry["listed"]:
            where = f"available: {entry['place']}" if entry["source"] else "downloaded when first used"
            rows.append((entry["name"], where))
    rows += [(f"disk, {each['what']}", f"{_gigabytes(each['free'])} free") for each in facts["disk"]]
    if facts["profile"]["there"]:
        rows.append(("profile", "tuned"))
    return rows


def _gigabytes(count: float) -> str:
    return f"{count / 2**30:.1f} GB"


class Scrubber:
    """Replaces folders by what they are, and names by ``<user>`` and ``<machine>``."""

    def __init__(self) -> None:
        self._folders = _folders()
        self._names = {name.lower(): label for name, label in _names()}
        names = "|".join(map(re.escape, self._names))
        self._private = re.compile(rf"{_LABELS}|(?<!\w)(?:{names})(?!\w)" if names else _LABELS, re.IGNORECASE)

    def text(self, text: str) -> str:
        """The text without private parts; of other paths only the last part is left."""
        for folder, label in self._folders:
            text = re.sub(re.escape(folder) + r"(?![\w.-])", label, text, flags=re.IGNORECASE)
        text = _HOMES.sub("<home>", text)
        text = _PATH.sub(lambda match: re.split(r"[\\/]", match.group().rstrip("\\/"))[-1] or "<path>", text)
        text = _BELOW.sub(r"\1/", text)
        return self._private.sub(lambda found: self._names.get(found.group().lower(), found.group()), text)

    def value(self, value: Any) -> Any:
        """The same for the strings in lists and dictionaries; keys stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def _folders() -> List[Tuple[str, str]]:
    """Folders and their labels, the longest first."""
    labels: Dict[str, str] = {}

    def add(path: Any, label: str) -> None:
        for form in {str(path), real(path)}:
            if len(form) > 3:
                for slashed in {form, form.replace("\\", "/"), form.replace("\\", "\\\\")}:
                    labels.setdefault(slashed, label)

    add(ROOT, "<program>")
    add(Path.cwd(), "<working folder>")
    add(sys.prefix, "<python>")
    add(sys.base_prefix, "<python>")
    add(tempfile.gettempdir(), "<temporary>")
    for variable in ("HOME", "USERPROFILE"):
        if os.environ.get(variable):
            add(os.environ[variable], "<home>")
    try:
        add(Path.home(), "<home>")
    except RuntimeError:
        pass
    return sorted(labels.items(), key=lambda item: -len(item[0]))


def _names() -> List[Tuple[str, str]]:
    labels: Dict[str, str] = {}
    for variable in _NAMES:
        labels[os.environ.get(variable, "")] = (
            "<user>" if variable in ("USER", "USERNAME", "LOGNAME", "SUDO_USER") else "<machine>"
        )
    labels[platform.node()] = "<machine>"
    labels[platform.node().partition(".")[0]] = "<machine>"
    try:
        labels[getpass.getuser()] = "<user>"
        labels[Path.home().name] = "<user>"
    except (RuntimeError, KeyError, OSError, ImportError):
        pass
    return sorted(((name, label) for name, label in labels.items() if name), key=lambda item: -len(item[0]))
