"""The documents hold together: links lead somewhere, every alert has its section, commands exist."""

import re
from pathlib import Path

import pytest

from streamchar.cli import _COMMANDS, _GROUPS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("schemas/*.md")]
)


def anchors(path):
    """Anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors(path), f"{document.name} links to {target}"


def test_every_alert_has_its_section():
    alerts = (ROOT / "deploy/prometheus/rules/alerts.yaml").read_text()
    linked = re.findall(r"runbook_url: docs/runbook\.md#(\S+)", alerts)
    assert len(linked) == len(re.findall(r"- alert:", alerts)) > 15
    assert set(linked) <= anchors(ROOT / "docs/runbook.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist(document):
    known = {**_COMMANDS, **_GROUPS}
    named = set(re.findall(r"(?:^|`|bin/)streamchar ([a-z]+)", document.read_text(), re.MULTILINE))
    assert named <= set(known), f"{document.name} names {named - set(known)}"


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in {**_COMMANDS, **_GROUPS} if f"`streamchar {name}" not in readme]
