"""What does a status mean, in words for a person at 3 a.m.?

Pure functions from a `Status` (which may have come over the socket) to text. Everything that a guest or an
operator named is escaped, so that no name can move the cursor or pretend to be another line.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from balloond.log import printable
from balloond.policy.solvency import swap_remedy
from balloond.publish.admission import AdmissionStatus, RefusalStatus
from balloond.publish.status import GuestStatus, HostStatus, LastStatus, LedgerStatus, SolvencyStatus, Status
from balloond.units import format_size

UNKNOWN: Final = "?"
_LONGEST_NAME: Final = 32
_HEADINGS: Final = ("GUEST", "HAS", "OF", "TARGET", "USES", "RESIDENT", "STATE", "LAST DONE")


def describe_status(status: Status, *, width: int | None = None) -> str:
    """The host, what is wrong, and a line for each guest. `width`: cut lines there; None: cut nothing."""
    lines = [*_about_daemon(status), *_about_host(status), *_about_faults(status), ""]
    if status["guests"] is None:
        lines.append("Guests: unknown, since libvirt does not answer. They keep the memory that they have.")
    elif not status["guests"]:
        lines.append("Guests: none.")
    else:
        rows = [_row(guest) for guest in sorted(status["guests"], key=lambda guest: guest["name"])]
        lines += _table(_HEADINGS, rows)
    return "\n".join(line if width is None else line[:width] for line in lines) + "\n"


def find(status: Status, asked: str) -> list[GuestStatus]:
    """The guests of that name or UUID; without one, those whose UUID begins so."""
    guests = status["guests"] or []
    exact = [guest for guest in guests if asked in (guest["name"], guest["uuid"])]
    return exact or [guest for guest in guests if len(asked) >= 4 and guest["uuid"].startswith(asked)]


def explain(guest: GuestStatus, status: Status) -> str:
    """All that is known of one guest, in sentences."""
    title = f" ({printable(guest['title'])})" if guest["title"] else ""
    paragraphs = (
        [f"{printable(guest['name'])}{title}, {guest['uuid']}, is {guest['state']}."],
        _memory_of(guest),
        _numbers_of(guest),
        _needs_of(guest),
        _now(guest, status),
        [_last_in_words(guest["last"])]
        if guest["last"]
        else ["Nothing was done to it since balloond started."],
        _advice(guest, status),
    )
    return "\n\n".join("\n".join(paragraph) for paragraph in paragraphs if paragraph) + "\n"


# --- the host --------------------------------------------------------------------------------------------


def _about_daemon(status: Status) -> Iterable[str]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status["wall_s"]))
    mode = "observe (decides, but touches no guest)" if status["mode"] == "observe" else status["mode"]
    yield f"balloond {status['version']}, mode {mode}, tick {status['tick']} at {when}"


def _about_host(status: Status) -> Iterable[str]:
    host, ledger = status["host"], status["ledger"]
    if host is None:
        yield "Host: unknown; nothing is moved until its figures can be read again."
        return
    source = {"cgroup": " (the guests' cgroup)", "operator": " (as configured)"}.get(host["source"], "")
    yield (
        f"Host: {status['rung']}; {format_size(host['total'])}{source}, "
        f"{format_size(host['available'])} available{_pressure(host)}; {_swap(host)}"
    )
    yield from _ksm(host)
    if ledger is not None:
        yield _accounts(ledger)
    yield from _warnings(status)


def _accounts(ledger: LedgerStatus) -> str:
    return (
        f"      own use {format_size(ledger['own'])} + reserve {format_size(ledger['reserve'])} + "
        f"committed to guests {format_size(ledger['committed'])}; kept free for growth "
        f"{format_size(ledger['pool'])}; can be granted now {format_size(max(0, ledger['headroom']))}"
    )


def _warnings(status: Status) -> Iterable[str]:
    ledger, host = status["ledger"], status["host"]
    if ledger is not None and not ledger["covered"]:
        yield "  !   More is committed to guests than the host can back; nothing grows until balloons have given."
    if (
        ledger is not None
        and host is not None
        and ledger["guaranteed"] + ledger["own"] + ledger["reserve"] > host["total"]
    ):
        yield (
            f"  !   The guarantees ({format_size(ledger['guaranteed'])}) don't fit into the host. "
            "Lower them or move guests away."
        )
    if host is not None and host["ksm"] is not None and host["ksm"]["stance"] == "overruled":
        yield (
            "  !   Somebody else merges equal pages, which ksm.mode `off` rules out. They are not fought: stop "
            "ksmtuned, MOM, tuned, or whoever else writes 1 to /sys/kernel/mm/ksm/run."
        )
    if status["solvency"] is not None:
        yield from insolvency(status["solvency"], source=host["source"] if host else "")
    yield from _relieved(status)


def insolvency(solvency: SolvencyStatus, *, source: str) -> Iterable[str]:
    """What is missing should all guests take all their memory at once, and what mends it; nothing while solvent.
    `source`: what bounds the memory that guests compete for."""
    if solvency["memory_missing"]:
        yield (
            "  !   What can't be swapped (locked, hugepages, passthrough, confidential, memory.swap.max), or to "
            f"zram only, may take {format_size(solvency['memory_missing'])} more than there is memory: no swap "
            "helps. Move a guest away."
        )
    if solvency["swap_missing"]:
        yield (
            "  !   If all guests took all their memory at once (a reboot takes it without asking), "
            f"{format_size(solvency['swap_missing'])} would be missing, and the kernel might have to kill one. "
            "Swap on disk (not zram) mends it:"
        )
        beyond = solvency.get("zram_beyond", 0)  # none from a daemon that is older than this
        for line in swap_remedy(solvency["swap_missing"], solvency["swap_withheld"], beyond):
            yield f"      {line}"
        if source == "cgroup" and solvency["swap_withheld"] is None:
            yield f"      {_LET_CGROUP}"


def describe_admission(answer: AdmissionStatus) -> str:
    """Yes or no, why, and what would mend it."""
    size = format_size(answer["size"])
    what = f"a guest of {size}" + ("" if answer["held"] == "ordinary" else f" ({answer['held']})")
    if answer["admitted"]:
        left = f": {format_size(answer['spare'])} of memory and swap would be left" if answer["spare"] else ""
        return f"yes: {what} may start{left}"
    lines = [f"no: {what} may not start now"]
    for refusal in answer["refusals"]:
        lines += (f"  {line}" for line in _refusal(refusal, answer))
    return "\n".join(lines)


def _refusal(refusal: RefusalStatus, answer: AdmissionStatus) -> Iterable[str]:
    missing = format_size(refusal["missing"] or 0)
    match refusal["objection"]:
        case "unknown":
            yield (
                "the host's figures or its guests can't be read, or not all limits that guests stand under "
                "are known; see balloonctl status"
            )
        case "host-short":
            yield f"the host is {answer['rung']}: it is short of memory right now"
        case "memory-missing":
            yield f"{missing} of memory would be missing for what can't be swapped, or to zram only; no swap helps"
        case "hugepages-missing":
            yield f"{missing} of huge pages are missing; see /proc/sys/vm/nr_hugepages"
        case "guarantee":
            yield (
                f"the guarantees would not fit into memory, by {missing}; lower `minimum`, "
                "or move a guest away"
            )
        case "swap-missing":
            yield (
                f"{missing} of swap on disk would be missing, should all guests take all their memory at once"
            )
            beyond = answer.get("zram_beyond", 0)  # none from a daemon that is older than this
            yield from swap_remedy(refusal["missing"] or 0, answer["swap_withheld"], beyond)
            if answer["source"] == "cgroup" and answer["swap_withheld"] is None:
                yield _LET_CGROUP
        case other:
            yield printable(str(other))


_LET_CGROUP: Final = "and let the guests' cgroup have it (memory.swap.max, or memory.memsw.limit_in_bytes)"


def _relieved(status: Status) -> Iterable[str]:
    """Whose memory the kernel is asked to take at present, and why."""
    for guest in status["guests"] or ():
        relief = guest["relief"]
        if relief is None or relief["size"] is None or status["rung"] not in ("orange", "red"):
            continue
        what = "limited softly to" if relief["kind"] == "limit" else "asked to be swapped out:"
        yield (
            f"  !   {_name(guest['name'])} {printable(relief['words'])}: {what} "
            f"{format_size(relief['size'])}, {relief['result']} {ago(relief['ago_s'])}."
        )


def _pressure(host: HostStatus) -> str:
    pressure = host["pressure"]
    return "" if pressure is None else f", pressure {pressure['some_avg10']:.1%}"


def _swap(host: HostStatus) -> str:
    if not host["swap_total"]:
        return "no swap"
    zram = (
        f" ({format_size(host['zram_total'])} of it zram, which counts as none)" if host["zram_total"] else ""
    )
    return f"swap {format_size(host['swap_free'])} free of {format_size(host['swap_total'])}{zram}"


def _ksm(host: HostStatus) -> Iterable[str]:
    """A line on merging, where there is anything to say of it."""
    ksm = host["ksm"]
    if ksm is None or (not ksm["saved"] and ksm["mode"] in (None, "leave")):
        return
    saves = f"saves {format_size(ksm['saved'])}, on loan: guests call it back by writing"
    stance = f"; {ksm['stance']}: {ksm['words']}" if ksm["mode"] not in (None, "leave") else ""
    cpu = f"; ksmd takes {ksm['cpu']:.0%} of a processor" if ksm["cpu"] else ""
    yield f"      merging {saves if ksm['saved'] else 'saves nothing'}{stance}{cpu}"


def _about_faults(status: Status) -> Iterable[str]:
    for fault in status["faults"]:
        yield f"  !   {fault['kind']}: {printable(fault['subject'])}: {printable(fault['detail'])}"


# --- a line a guest --------------------------------------------------------------------------------------


def _row(guest: GuestStatus) -> tuple[str, ...]:
    target = guest["target"]
    return (
        _name(guest["name"]),
        format_size(guest["actual"]),
        format_size(guest["maximum"]),
        "-" if target is None or target == guest["actual"] else format_size(target),
        _size(guest["working_set"]),
        _size(guest["rss"]),
        standing(guest),
        _last(guest["last"]),
    )


def standing(guest: GuestStatus) -> str:
    """The one word that matters most about a guest."""
    if guest["state"] != "running":
        return guest["state"]
    if guest["obstacle"] is not None:
        return guest["obstacle"]
    if guest["in_distress"]:
        return "distress"
    return guest["trust"] or UNKNOWN


def _last(last: LastStatus | None) -> str:
    if last is None:
        return "-"
    result = "" if last["result"] == "done" else f" [{last['result']}]"
    return f"{_step(last)} {ago(last['ago_s'])}: {last['reason']}{result}"


def _step(last: LastStatus) -> str:
    return f"{format_size(last['from_bytes'])} to {format_size(last['to_bytes'])}"


def ago(seconds: float) -> str:
    """How long ago, in the one unit that says enough."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _name(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"


def _size(size: int | None) -> str:
    return UNKNOWN if size is None else format_size(size)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell; sizes to the right, words to the left."""
    widths = [max(map(_columns, column)) for column in zip(headings, *rows, strict=True)]
    sizes = range(1, 6)
    return [
        "  ".join(
            " " * (width - _columns(cell)) + cell if index in sizes else cell + " " * (width - _columns(cell))
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headings, *rows)
    ]


def _columns(text: str) -> int:
    """How many columns of a terminal `text` takes: East Asian characters take two, marks on others none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


# --- one guest in sentences ------------------------------------------------------------------------------


def _memory_of(guest: GuestStatus) -> list[str]:
    lines = [f"It has {format_size(guest['actual'])} of at most {format_size(guest['maximum'])}."]
    if guest["target"] is not None and guest["target"] != guest["actual"]:
        lines.append(f"Its balloon was asked for {format_size(guest['target'])} and is on its way.")
    if guest["rss"] is not None:
        lines.append(f"On the host, QEMU occupies {format_size(guest['rss'])} for it.")
    lines += _relief_in_words(guest)
    if not guest["mergeable"]:
        lines.append("Its pages are never merged with others' (<nosharepages/>, or the kind of its memory).")
    if guest["swapped"]:
        lines.append(f"{format_size(guest['swapped'])} of it lie in the host's swap.")
    return lines


def _relief_in_words(guest: GuestStatus) -> list[str]:
    """What the kernel does with its memory at our request, while it does."""
    relief = guest["relief"]
    if relief is None:
        return []
    failed = "" if relief["result"] == "done" else f" It came to this: {relief['result']}"
    failed += f" ({printable(relief['detail'])})." if failed and relief["detail"] else "." if failed else ""
    when, why = ago(relief["ago_s"]), printable(relief["words"])
    if relief["size"] is None:
        return [f"Its soft limit was lifted {when}: {why}.{failed}"]
    what = {"limit": "it was limited softly to", "reclaim": "the kernel was asked to swap out"}[
        relief["kind"]
    ]
    return [f"Since it {why}, {what} {format_size(relief['size'])} {when}.{failed}"]


def _numbers_of(guest: GuestStatus) -> list[str]:
    if guest["obstacle"] is not None:
        return [f"Its balloon is left alone: {_OBSTACLES.get(guest['obstacle'], guest['obstacle'])}."]
    age_s, trust = guest["statistics_age_s"], guest["trust"]
    lines = [
        "Its driver has never reported statistics."
        if age_s is None
        else f"Its statistics are {age_s:.0f} s old (asked for each {guest['statistics_period_s']} s)."
    ]
    if trust is not None:
        lines.append(f"They are {trust}: {_TRUST.get(trust, 'see docs/operating.md')}.")
    if guest["usable"] is not None:
        lines.append(f"It says that it could still use {format_size(guest['usable'])}.")
    return lines


def _needs_of(guest: GuestStatus) -> list[str]:
    if guest["want"] is None:
        return []
    lines = [
        "What it uses is not known yet."
        if guest["working_set"] is None
        else f"It is estimated to use {_size(guest['working_set'])}; with a margin it wants "
        f"{_size(guest['want'])}.",
        f"You guarantee it {_size(guest['guarantee'])}. Now it is not shrunk below {_size(guest['floor'])}, "
        f"nor grown above {_size(guest['ceiling'])}.",
    ]
    if guest["in_distress"]:
        lines.append("It is in distress: it swaps or faults for want of memory, so it is not shrunk.")
    return lines


def _now(guest: GuestStatus, status: Status) -> list[str]:
    if guest["reason"] is None or guest["obstacle"] is not None:
        return []
    words = f": {printable(guest['words'])}" if guest["words"] else ""
    granted = (
        "" if guest["entitlement"] is None else f" Its share of the host is {_size(guest['entitlement'])}."
    )
    observed = " Mode is observe: it is decided but not done." if status["mode"] == "observe" else ""
    return [f"At tick {status['tick']}: {guest['reason']}{words}.{granted}{observed}"]


def _last_in_words(last: LastStatus) -> str:
    done = "was" if last["result"] == "done" else "was to be"
    way = "grown" if last["to_bytes"] > last["from_bytes"] else "shrunk"
    detail = f" ({printable(last['detail'])})" if last["detail"] else ""
    failed = "" if last["result"] == "done" else f" It came to this: {last['result']}{detail}."
    because = f"{last['reason']}: {printable(last['words'])}" if last["words"] else last["reason"]
    return f"It {done} {way} from {_step(last)} {ago(last['ago_s'])}, for {because}.{failed}"


def _advice(guest: GuestStatus, status: Status) -> list[str]:
    """What a person can do about it."""
    advice = []
    if guest["obstacle"] is None and guest["trust"] in ("absent", "silent"):
        advice.append(
            "Look in the guest whether its balloon driver runs (Linux: lsmod | grep virtio_balloon; "
            "Windows: the service BLNSVR)."
        )
    if guest["trust"] == "lying":
        advice.append("Its figures are impossible. Update its balloon driver, or set `manage: false` for it.")
    if guest["in_distress"] and guest["ceiling"] is not None and guest["actual"] >= guest["ceiling"]:
        advice.append("It has all that it may have and needs more: raise its maximum.")
    elif guest["in_distress"] and status["rung"] in ("orange", "red"):
        advice.append("The host is short: move a guest away, or lower what others are guaranteed.")
    if guest["swapped"] and not guest["reports_free_pages"]:
        advice.append(
            "Give its balloon freePageReporting='on', so that the host does not swap what it has freed."
        )
    return [f"What to do: {advice[0]}", *(f"            {each}" for each in advice[1:])] if advice else []


_TRUST: Final = {
    "fresh": "it may be shrunk and grown",
    "aging": "it may grow, but is not shrunk",
    "stale": "it counts with what is resident, and is not shrunk",
    "silent": "it is held where it is, and counts with its maximum",
    "new": "it started a moment ago and is left to settle",
    "absent": "it is held where it is",
    "lying": "the last sample was impossible and was thrown away",
}
_OBSTACLES: Final = {
    "unmanaged": "the configuration says `manage: false`",
    "not-running": "it does not run",
    "no-balloon": "it has no virtio balloon device; add <memballoon model='virtio'/>",
    "in-job": "a migration, save, dump or snapshot is under way",
    "locked-memory": "its memory is locked, so the host would gain nothing",
    "hugepages": "it lives in huge pages, so the host would gain nothing",
    "passthrough": "a passed-through device pins its memory",
    "confidential": "its memory is encrypted (<launchSecurity>)",
    "unreadable": "its monitor does not answer",
}
