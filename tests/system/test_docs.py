"""Documents that our programs write are the committed ones, and each connector has its page."""

import json
import re
import subprocess

import generated
from lib.paths import ROOT, program


def test_generated_documents_are_current():
    assert generated.stale() == []


def test_every_connector_has_a_page():
    listed = json.loads(subprocess.check_output([program(), "options", "--json"], text=True))
    pages = {path.stem for path in (ROOT / "docs/reference/options").glob("*.md")}
    assert {connector["name"] for connector in listed} == pages | {"service"}
    for connector in listed:
        folder = ROOT / "docs/reference" / ("" if connector["name"] == "service" else "options")
        page = (folder / f"{connector['name']}.md").read_text()
        for option in connector["options"]:
            assert f"`{option['name']}`" in page


# What a sentence of ours may tell the reader to use, and where such names stand in it.
LITERAL = re.compile(r"""//.*|/\*.*?\*/|'(?:[^'\\\n]|\\.)+'|"((?:[^"\\\n]|\\.)*)"(\s*(?=")|)""", re.DOTALL)
NAMED_OPTION = [
    re.compile(r"\boptions? (?:\\\"(\w+)\\\"|(\w*_\w+)\b)"),
    re.compile(r"\b(?:set|raise|remove) (?:the option )?([a-z]+(?:_[a-z]+)*)(?==\w)"),
]
NAMED_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]+)")
NAMED_COMMAND = re.compile(r"`ductstream ([a-z-]+(?: [a-z][a-z-]*)?)")
ADMIN_COMMAND = re.compile(r"`ductstream-admin ([a-z]+(?: [a-z][a-z-]*)?)")
NO_REMEDY = re.compile(r"[mM]ap (?:it|one|them) to")


def sentences():
    """(file, text) of every string of the program that has a space; parts that C joins are joined."""
    for path in sorted((ROOT / "src").rglob("*.c")):
        text = ""
        for match in LITERAL.finditer(path.read_text()):
            if match[1] is None:
                continue
            text += match[1]
            if not match[2]:
                if " " in text:
                    yield path.relative_to(ROOT), text
                text = ""


def test_remedies_name_what_exists():
    listed = json.loads(subprocess.check_output([program(), "options", "--json"], text=True))
    options = {option["name"] for connector in listed for option in connector["options"]}
    usage = subprocess.check_output([program(), "help"], text=True)
    listed_commands = re.findall(r"^  ([\w-]+)  +(.*)$", usage, re.MULTILINE)
    commands = {f"{name} {verb}" for name, verbs in listed_commands if " | " in verbs for verb in verbs.split(" | ")}
    commands |= {name for name, verbs in listed_commands if " | " not in verbs}
    helps = "".join(subprocess.check_output([program(), "help", *command.split()], text=True) for command in commands)
    flags = set(NAMED_FLAG.findall(helps)) | {"help", "json"}
    completion = subprocess.check_output([program("ductstream-admin"), "completion"], text=True)
    flags |= set(NAMED_FLAG.findall(completion))
    worker = subprocess.check_output([program("ductstream-worker"), "-help"], text=True)
    flags |= set(re.findall(r"(?<![\w-])-([a-z][a-z-]+)", worker))
    admin_commands = set(re.findall(r"^\t\"([a-z -]+?) ?\"\*?\)", completion, re.MULTILINE)) | {"help", "version"}
    for path in (ROOT / "src").rglob("*.c"):  # of flow files, and those that are not listed
        options |= set(re.findall(r"OPT\(C, \w+, \"(\w+)\"", path.read_text()))
    seen, wrong = 0, []
    for path, text in sentences():
        named = [name for pattern in NAMED_OPTION for match in pattern.finditer(text) for name in match.groups() if name]
        unknown = [name for name in named if name not in options]
        unknown += [flag for flag in NAMED_FLAG.findall(text) if flag not in flags]
        unknown += [words for words in NAMED_COMMAND.findall(text) if not {words, words.split()[0]} & commands]
        unknown += [words for words in ADMIN_COMMAND.findall(text) if words not in admin_commands]
        unknown += NO_REMEDY.findall(text)
        seen += len(named)
        wrong += [f"{path}: {name}: {text}" for name in unknown]
    assert not wrong, "\n".join(wrong)
    assert seen > 15 and "accept-gap" in flags and "lake verify" in commands
