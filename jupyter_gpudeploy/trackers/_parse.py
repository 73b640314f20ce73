"""One printed line to numbers with names: JSON, dicts, `name=value`, `name: value`.

What is read, in this order: a row of an lm_eval table; a JSON object or a Python dict (bare `nan`, quoted numbers,
`np.float64(0.1)`, `tensor(0.1)`); pairs anywhere in the line. Before that, terminal control and overwritten text are
taken out, then what loggers put in front (time, level, logger, rank).

Not read: what stands in a URL or in the arguments of a call, addresses, versions, dates, times of day, process ids,
`3 files`. When in doubt a line says nothing, since a false metric is worse than a missing one.

Every pattern is anchored or bounded, and a line longer than LIMIT is not looked at, so no line can hold a kernel.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.text import overwritten, strip_controls
from jupyter_gpudeploy.trackers._rows import EPOCH_NAMES, NO_METRICS, STEP_NAMES, Row, number, numbers, row

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT = 1 << 14
Parsed = Row

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = rf"[-+]?(?:{_DIGITS}|(?i:nan|inf|infinity)(?!\w))"
_PAIR = re.compile(rf"([:=])(\s{{0,80}})['\"]?({_NUMBER})['\"]?")
_SIMPLE_PAIR = re.compile(rf"([a-z][\w/.@-]{{0,63}})=({_NUMBER})(?:,?\s{{1,8}}|$)")
_SIMPLE = re.compile(f"(?:{_SIMPLE_PAIR.pattern})+")
_FRACTION = re.compile(r"\s?/\s?(\d+(?:\.\d+)?)(?![\w:/])")
_AVERAGE = re.compile(rf"\s?\(({_NUMBER})\)")
_UNIT = re.compile(r"(\s?)(%|[a-zA-Zµμ°/][\w/µμ°]{0,15})")
_NEXT_NAME = re.compile(r"\s[^\W\d][\w/.@-]{0,40}(?:\s[^\W\d][\w/.@-]{0,40}){0,2}\s{0,4}[:=]")
_UNITS = frozenset(
    "% ns us µs μs ms s sec secs second seconds min mins "  # noqa: SIM905 - words read better than a hundred quotes
    "minute minutes h hr hrs hour hours d days "
    "byte bytes kb mb gb tb kib mib gib tib w kw c °c x db hz khz mhz ghz px j kj kwh "
    "/s it it/s s/it ms/step us/step s/step step/s steps/s tok/s token/s tokens/s tokens samples samples/s sample/s "
    "img/s image/s images/s imgs/s req/s requests/s batch/s batches/s ms/batch s/batch examples/s examples/sec "
    "mb/s gb/s mib/s gib/s flops gflops tflops flops/s tflops/s tok/sec tokens/sec it/sec samples/sec".split()
)
_RATIO_NAME = re.compile(r"(?i)acc|correct|precision|recall|score|rate|ratio|pass|top|f1|hit")
_METRIC_WORD = re.compile(
    r"(?<![a-z])(?:loss|losses|acc|accuracy|lr|rate|error|err|f1|auc|auroc|bleu|rouge|ppl|perplexity|score|mse|mae|rmse"
    r"|r2|iou|map|dice|precision|recall|reward|return|norm|gnorm|throughput|latency|psnr|ssim|wer|cer|fid|entropy|kl"
    r"|elbo|nll|mean|std|top)(?![a-z])"
)
_BOUNDARY = re.compile(r"[,;|\t\[\]{}<>&?!*=:\"'`•→·…]|\s+[-–—]\s|\s{2,}|\.\s")  # noqa: RUF001 - dashes that loggers print
_NAME = re.compile(r"[^\W\d][\w /@.%()+^~#-]{0,63}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+")
_FILLERS = frozenset({"and", "with", "the", "a", "an", "at", "of", "in", "is", "has", "for", "to"})
_WORDS = 4

_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL|debug|info|warning|error)"
_PREFIX = re.compile(
    r"\s*(?:"
    r"[\[(]?\d{4}[-/]\d\d[-/]\d\d(?:[T\s]\s?\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?)?\s?(?:Z|[+-]\d\d:?\d\d)?[\])]?(?!\w)"
    r"|[\[(]?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?[\])]?(?!\w)"
    rf"|[\[(]?{_LEVEL}[\])]?(?=[\s:|,-]|$)"
    rf"|[\w.]{{1,60}}\s{{0,4}}[-|:]\s{{0,4}}(?={_LEVEL}\b)"
    r"|\[(?:(?i:rank|gpu|worker)[\s_=:]?)?\d{1,5}\]:?(?=\s)"
    r"|\[(?!(?i:train|training|val|valid|validation|test|eval|dev)\])[A-Za-z][\w.-]{0,40}\](?=\s)"
    r")(?:\s|[-|:>,](?=\s))*"
)
_PHASE = re.compile(
    r"\s*(?:\[(train|training|val|valid|validation|test|eval|dev)\]\s?[:|-]?"
    r"|(train|training|val|valid|validation|test|eval|dev)\s{0,8}[:|]\s)\s*",
    re.IGNORECASE,
)
_COUNT = r"\b\s{0,4}[:=#]?\s{0,8}[\[(]?\s{0,4}(\d{1,12}(?:\.\d{1,9})?)(?:\s?/\s?\d{1,12})?[\])]?(?![\w.%/]|,\d)"
_EPOCH = re.compile(r"(?i)\bepoch" + _COUNT + r":?(?:\s{1,12}(\d{1,12})\s/\s\d{1,12}(?=\s))?")
_STEP = re.compile(r"(?i)\b(?:global[ _]step|step|iter|iteration)" + _COUNT + ":?")
_BAR = re.compile(r"\|\s{0,4}(\d{1,12})/(?:\d{1,12}|\?)\s\[(?:\d{1,4}:)?\d\d:\d\d<")

_TOKEN = re.compile(
    r"'((?:[^'\\]|\\.){0,200})'"
    r'|"(?:[^"\\]|\\.){0,200}"'
    r"|(?:(?:np|numpy|jnp|torch)\.)?(?:float\d\d|int\d\d|bfloat16|tensor|array|Array)\(([^(),\[\]]{1,60})(?:,[^()]{0,80})?\)"
    r"|-?\b(?:nan|inf|True|False|None)\b"
)
_JSON_WORDS = {
    "nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity",
    "True": "true", "False": "false", "None": "null",
}  # fmt: skip
_TABLE_CELLS = 11


def parse_line(text: str) -> Parsed | None:
    """Return the metrics of one line, with step and epoch where it names them; None for a line without a metric."""
    line = overwritten(strip_controls(text)).strip()
    if not line or len(line) > LIMIT:
        return None
    if line.startswith("|") and "±" in line:
        return _table_row(line)
    if _SIMPLE.fullmatch(line):
        found = row({name: _float(value) for name, value in _SIMPLE_PAIR.findall(line)})
        return found if found.metrics else None
    line = _without_urls(line)
    while prefix := _PREFIX.match(line):
        line = line[prefix.end() :]
    report = (_object(line) if "{" in line and ":" in line else None) or _pairs(line)
    return report if report.metrics else None


def _table_row(line: str) -> Parsed | None:
    """Read `|task|version|filter|n-shot|metric|↑|value|±|stderr|` of lm_eval."""
    cells = [cell.strip() for cell in line.split("|")]
    if len(cells) != _TABLE_CELLS or not cells[1]:
        return None
    value, error = number(cells[7]), number(cells[9])
    if value is None:
        return None
    name = f"{cells[1].lstrip('- ')}/{cells[5]}"
    return Row({name: value} if error is None else {name: value, f"{name}_stderr": error})


def _object(line: str) -> Parsed | None:
    """Read the JSON object or dict in a line; None where none can be read."""
    start, end = line.find("{"), line.rfind("}") + 1
    content = _loads(line[start:end])
    if content is None:
        return None
    found, (_, step, epoch) = row(numbers(content)), _place(line[:start])
    return found._replace(
        step=step if found.step is None else found.step, epoch=epoch if found.epoch is None else found.epoch
    )


def _loads(body: str) -> Mapping[str, object] | None:
    for candidate in (body, None):
        try:
            content = json.loads(_TOKEN.sub(_as_json, body) if candidate is None else candidate)
        except (ValueError, RecursionError):
            continue
        return content if isinstance(content, dict) else None
    return None


def _as_json(match: re.Match[str]) -> str:
    """Return one token of a Python dict as JSON."""
    if match[1] is not None:
        is_plain = match[1].isprintable() and '"' not in match[1] and "\\" not in match[1]
        return f'"{match[1]}"' if is_plain else json.dumps(match[1])
    token = match[2] if match[2] is not None else match[0]
    return _JSON_WORDS.get(token.strip(), token)


def _pairs(line: str) -> Parsed:
    """Read every `name=value` and `name: value` of a line."""
    phase = _PHASE.match(line)
    above = f"{(phase[1] or phase[2]).lower()}/" if phase else ""
    line, step, epoch = _place(line[phase.end() :] if phase else line)
    line = _without_calls(line)
    metrics: dict[str, float] = {}
    floor = 0
    for match in _PAIR.finditer(line):
        name = _name_before(line, floor, match)
        value, floor = _value(line, match, name)
        if not name or value is None:
            continue
        last = name.rpartition(" ")[2].lower()
        if last in STEP_NAMES:
            step = value if step is None else step
        elif last in EPOCH_NAMES:
            epoch = value if epoch is None else epoch
        else:
            metrics[above + name] = value
            if average := _AVERAGE.match(line, floor):
                metrics[f"{above}{name} (avg)"] = _float(average[1])
                floor = average.end()
    return Row(metrics, step, epoch)


def _name_before(line: str, floor: int, pair: re.Match[str]) -> str:
    """Return the name that ends at the separator of `pair`, or "" where what stands there is none."""
    left = line[max(floor, pair.start() - 80) : pair.start()]
    spaced = left[-1:].isspace()
    left = left.rstrip().rstrip("'\"")
    if not left or left[-1] in "=!<>+-*/:~^%":
        return ""
    boundaries = list(_BOUNDARY.finditer(left))
    if boundaries and boundaries[-1][0] in ("?", "&"):
        return ""
    name = _without_parentheses(left[boundaries[-1].end() :] if boundaries else left).strip()
    if pair[1] == "=" and not spaced:
        name = name.rpartition(" ")[2]
    found = _checked(name)
    if pair[1] == ":" and not pair[2] and found:  # host:80 and image:2.1 look like loss:0.1
        low = found.rpartition(" ")[2].lower()
        is_metric = _METRIC_WORD.search(low) is not None and not pair[3].isdecimal()
        return found if is_metric or low in STEP_NAMES or low in EPOCH_NAMES else ""
    return found


def _without_parentheses(name: str) -> str:
    """Return `loss` for `(loss` and for `(3%) loss`; `throughput (req/s)` stays."""
    if name.count("(") > name.count(")"):
        return name.rpartition("(")[2]
    return name.partition(")")[2] if name.startswith("(") else name


@lru_cache(4096)
def _checked(name: str) -> str:
    """Return the name without what leads to it, or "" for what is no name of a metric."""
    words = name.split(" ")
    while len(words) > 1 and words[0].lower() in _FILLERS:
        del words[0]
    if len(words) > _WORDS:
        words = words[-1:] if _METRIC_WORD.search(words[-1].lower()) else []
    name = " ".join(words)
    if not _NAME.fullmatch(name):
        return ""
    last = next(word for word in reversed(words) if (word and not word.startswith("(")) or word is words[0])
    is_variable = _VARIABLE.fullmatch(name) and not _METRIC_WORD.search(name.lower())
    if last.lower() in NO_METRICS or is_variable or not any(letter.isalpha() for letter in last):
        return ""
    return name


def _value(line: str, pair: re.Match[str], name: str) -> tuple[float | None, int]:
    """Return the value of a pair and where it ends; None for what only begins like a number."""
    end, value = pair.end(), _float(pair[3])
    if fraction := _FRACTION.match(line, end):
        low = name.rpartition(" ")[2].lower()
        if low in STEP_NAMES or low in EPOCH_NAMES:
            return value, fraction.end()
        whole = float(fraction[1])
        return (value / whole if whole and _RATIO_NAME.search(name) else None), fraction.end()
    unit = _UNIT.match(line, end)
    if unit and unit[2].lower() in _UNITS:
        is_bar = unit[2] == "%" and line[unit.end() :].lstrip()[:1] == "|"
        return (None if is_bar else value), unit.end()
    after = line[end : end + 2]
    if after[:1] and (after[0].isalnum() or after[0] in "_/@#\\"):
        return None, end
    if after[:1] in (".", ":", "-", "+") and after[1:].strip():
        return None, end
    is_prose = pair[3].isdecimal() and unit and unit[1] and not _NEXT_NAME.match(line, end)
    return (None if is_prose else value), end


def _float(digits: str) -> float:
    return float(digits.replace(",", ""))


def _place(line: str) -> tuple[str, float | None, float | None]:
    """Return the line without `Epoch 3/10` and `step 40`, and (step, epoch) that they said."""
    step = epoch = None
    if found := _EPOCH.search(line):
        epoch, step = float(found[1]), float(found[2]) if found[2] else None
        line = f"{line[: found.start()]}\t{line[found.end() :]}"
    if found := _STEP.search(line):
        step = float(found[1])
        line = f"{line[: found.start()]}\t{line[found.end() :]}"
    if step is None and (found := _BAR.search(line)):
        step = float(found[1])
    return line, step, epoch


def _without_urls(line: str) -> str:
    return " ".join("" if "://" in word else word for word in line.split(" ")) if "://" in line else line


def _without_calls(line: str) -> str:
    """Return the line without `Name(..=..)` and `name{..=..}`: settings and labels, not reports."""
    opened: list[int] = []
    calls: list[tuple[int, int]] = []
    for match in re.finditer(r"[(){}]", line):
        if match[0] in "({":
            opened.append(match.start())
        elif opened:
            start = opened.pop()
            is_call = start > 0 and (line[start - 1].isalnum() or line[start - 1] == "_")
            if is_call:
                while calls and calls[-1][0] > start:
                    calls.pop()
                calls.append((start, match.end()))
    for start, end in reversed(calls):
        if "=" in line[start:end]:
            line = f"{line[:start]}\t{line[end:]}"
    return line
