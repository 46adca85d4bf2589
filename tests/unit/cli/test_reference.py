"""The reference of the settings follows the models."""

import re
from pathlib import Path

from streamchar.cli.reference import main, make_document

ROOT = Path(__file__).parents[3]


def test_the_document_is_up_to_date(tmp_path):
    path = tmp_path / "new" / "configuration.md"
    main([str(path)])
    assert (ROOT / "docs/configuration.md").read_text() == path.read_text(), "run 'make docs'"


def test_every_setting_has_a_meaning():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", make_document(), re.MULTILINE)
    assert len(rows) > 300
    assert not [name for name, meaning in rows if len(meaning) < 8]


def test_sections_are_those_of_the_settings():
    document = make_document()
    for section in (
        "kafka",
        "workers",
        "characterize.repair.cosmicray",
        "characterize.measure_psf.psf_determiner.pca",
    ):
        assert f"\n## {section}\n" in document
