"""Mutations of files, drawn from a seed, and how a command took one."""

import json
import signal
import traceback
from collections import Counter
from contextlib import contextmanager

from peculiar.core.errors import InputError

HANG_S, CPU_S = 300, 30  # a case that takes longer counts as a hang; the machine may be loaded
CARD, BLOCK = 80, 2880
NUMBERS = (
    "0",
    "-1",
    "2147483648",
    "-2147483649",
    "1E400",
    "NaN",
    "1E-320",
    "9" * 30,
    "0x10",
    "5_012",
)
WORDS = ("T", "F", "''", "'" + "x" * 60, "'\xe9\x00'", "(1.0, 2.0)", "", "/", "= = =", "'a''b'")
LEAVES = (
    *(None, True, 0, -1, 1e308, -1e308, 2**70, 0.5, "", "x" * 5000, "\x1b[2J", "../x", "1e3"),
    *([], [1], {}, {"a": 1}, [[]], "\ud800", "٣", "nan", "!!python/object:os.system"),
)


class Hang(Exception):
    """A case took longer than `HANG_S`, or `CPU_S` of this process."""


@contextmanager
def limited():
    """Raise `Hang` in the body after a time."""

    def stop(*_):
        raise Hang

    before = {kind: signal.signal(kind, stop) for kind in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for kind, handler in before.items():
            signal.signal(kind, handler)


def outcome(act, right):
    """How an action took a file: "sentence", "same" as `right`, "changed", "hang", a traceback."""
    try:
        with limited():
            return "same" if act() == right else "changed"
    except (InputError, SystemExit) as error:
        said = str(error.code if isinstance(error, SystemExit) else error)
        return "sentence" if said and "\n" not in said else f"not one sentence: {said[:300]!r}"
    except Hang:
        return "hang"
    except Exception:
        lines = traceback.format_exc()
        return "hang" if "fuzz.Hang" in lines else lines  # a library may wrap it


def check(found):
    """Counts of `outcome`s by case; the first bad ones with their case."""
    counts = Counter(what if len(what) < 10 else "traceback" for what in found.values())
    bad = [(case, what) for case, what in found.items() if len(what) >= 10 or what == "hang"]
    listed = "\n".join(f"{case}: {what}" for case, what in bad[:5])
    print(dict(counts))
    assert not bad, f"{len(bad)} of {len(found)}, for example\n{listed}"
    return counts


def headers_of(content):
    """Where each header of a FITS file begins, and its length, bytes."""
    begins = [0]
    while (begin := content.find(b"XTENSION=", begins[-1] + 1)) > 0:
        begins.append(begin)
    for begin in begins:
        end = begin
        while content[end : end + 8] != b"END     ":
            end += CARD
        yield begin, -(-(end + CARD - begin) // BLOCK) * BLOCK


def spoil_fits(content, dice):
    """A FITS file with one to three faults in its headers or its length."""
    content, headers = bytearray(content), list(headers_of(bytes(content)))
    for _ in range(dice.randint(1, 3)):
        begin, length = dice.choice(headers)
        cards = [
            at for at in range(begin, begin + length, CARD) if content[at : at + CARD].strip(b" \0")
        ] or [begin]
        at, other = dice.choice(cards), dice.choice(cards)
        kind = dice.choice(
            ["value", "value", "value", "byte", "byte", "swap", "copy", "drop", "key", "cut"]
        )
        if kind == "value":
            value = dice.choice(NUMBERS + WORDS).encode("latin1")
            content[at + 8 : at + CARD] = (b"= " + value.rjust(20)).ljust(CARD - 8)[: CARD - 8]
        elif kind == "byte":
            content[begin + dice.randrange(length)] = dice.randrange(256)
        elif kind == "swap":
            one, two = content[at : at + CARD], content[other : other + CARD]
            content[at : at + CARD], content[other : other + CARD] = two, one
        elif kind == "copy":
            content[at : at + CARD] = content[other : other + CARD]
        elif kind == "drop":
            content[at : at + CARD] = b" " * CARD
        elif kind == "key":
            content[at : at + 8] = bytes(dice.choice(b"ANXIS1=\0\xff e") for _ in range(8))
        else:
            del content[dice.randrange(len(content)) :]
            headers = [header for header in headers if sum(header) <= len(content)]
            if not headers:
                break
    return bytes(content)


def spoil_text(text, dice):
    """A text with one to three lines or characters changed."""
    for _ in range(dice.randint(1, 3)):
        lines = text.splitlines(keepends=True) or [""]
        at, other = dice.randrange(len(lines)), dice.randrange(len(lines))
        kind = dice.choice(["value", "value", "value", "drop", "twice", "swap", "character", "cut"])
        if kind == "value" and ":" in lines[at]:
            value = dice.choice(
                (*NUMBERS, *map(repr, LEAVES), "&a", "*a", "{", "[", "- -", "|", "\t")
            )
            lines[at] = f"{lines[at].split(':')[0]}: {value}\n"
        elif kind == "drop":
            lines[at] = ""
        elif kind == "twice":
            lines[at] *= 2
        elif kind == "swap":
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == "character":
            k = dice.randrange(len(lines[at]) + 1)
            lines[at] = (
                lines[at][:k]
                + chr(dice.choice((0, 9, 34, 91, 123, 0x2028, 0x3000, 0x1F600)))
                + lines[at][k:]
            )
        else:
            lines[at:] = [lines[at][: dice.randrange(len(lines[at]) + 1)]]
        text = "".join(lines)
    return text


def spoil_json(text, dice):
    """A JSON text with a value changed, removed or added, or with a text's faults."""
    if dice.random() < 0.25:
        return spoil_text(text, dice)
    whole = json.loads(text)
    inner, path = whole, []
    while isinstance(inner, dict | list) and inner and (not path or dice.random() < 0.8):
        key = dice.choice(list(inner)) if isinstance(inner, dict) else dice.randrange(len(inner))
        path.append((inner, key))
        inner = inner[key]
    if path:
        holder, key = path[-1]
        kind = dice.choice(["value", "value", "remove", "add"])
        if kind == "value":
            holder[key] = dice.choice(LEAVES)
        elif kind == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            holder[dice.choice(["x", "", "code", "\x1b", "9" * 20])] = dice.choice(LEAVES)
        else:
            holder.append(dice.choice(LEAVES))
    return json.dumps(whole)
