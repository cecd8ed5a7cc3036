"""Documents that our programs write are the committed ones, and each connector has its page."""

import json
import subprocess

import generated
from lib.paths import ROOT, program


def test_generated_documents_are_current():
    assert generated.stale() == []


def test_every_connector_has_a_page():
    listed = json.loads(subprocess.check_output([program(), "options", "--json"], text=True))
    pages = {path.stem for path in (ROOT / "docs/reference/options").glob("*.md")}
    assert {connector["name"] for connector in listed} == pages
    for connector in listed:
        page = (ROOT / f"docs/reference/options/{connector['name']}.md").read_text()
        for option in connector["options"]:
            assert f"`{option['name']}`" in page
