"""As what will libvirt start each guest the next time?

For a diagnosis alone; each tick is about guests that run, as they run. What a definition says comes out as the
guest that it would make, so that both are judged alike.
"""

from __future__ import annotations

from xml.etree import ElementTree

from balloond.diagnosis.traits import Definition
from balloond.host.domain_xml import BrokenXmlError, read_facts
from balloond.model import Guest, Obstacle, State


def definition_of(uuid: str, name: str, xml: str, *, stored: bool) -> Definition:
    """The guest that the next start will make of this text, which may hold anything."""
    try:
        facts = read_facts(xml)
    except BrokenXmlError:
        nothing = Guest(
            uuid=uuid, name=name, state=State.OFF, maximum=0, actual=0,
            obstacle=Obstacle.UNREADABLE, defined=False,
        )  # fmt: skip
        return Definition(guest=nothing, stored=stored)
    guest = Guest(
        uuid=uuid,
        name=name,
        title=facts.title,
        state=State.OFF,
        maximum=facts.maximum,
        actual=facts.current,
        obstacle=facts.obstacle,
        statistics_period_s=facts.statistics_period_s,
        deflates_on_oom=facts.deflates_on_oom,
        reports_free_pages=facts.reports_free_pages,
        mergeable=facts.mergeable,
        translations=facts.translations,
    )
    return Definition(guest=guest, stored=stored, architecture=facts.architecture)


def kvm_in(capabilities: str) -> tuple[str, ...]:
    """The architectures of guests that KVM runs, in libvirt's XML of capabilities (its formatcaps page)."""
    try:
        root = ElementTree.fromstring(capabilities)  # noqa: S314  (libvirt's own text; nobody else writes in it)
    except ElementTree.ParseError:
        return ()
    kinds = root.iterfind("guest/arch")
    return tuple(kind.get("name", "") for kind in kinds if kind.find("domain[@type='kvm']") is not None)
