"""People's own prompt files, and what is said of those that cannot be read."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from steerlab import ContrastSet, prompts
from steerlab.errors import FileError, PromptError, SteerlabError

ODD = ['Say "hi", twice', "First line\nsecond line", "Was heißt 茶?", "a; b\tc", "Zwei\u2028Zeilen"]
TALK = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write


def test_odd_prompts_come_back_from_a_csv_file_that_python_wrote(tmp_path: Path) -> None:
    for delimiter, encoding, end in ((",", "utf-8", "\n"), (";", "utf-8-sig", "\r\n"), ("\t", "utf-8", "\n")):
        path = tmp_path / "own.csv"
        with path.open("w", encoding=encoding, newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
            writer.writerows([["id", "Goal"], *([str(i), prompt] for i, prompt in enumerate(ODD))])
        assert prompts.read(path) == ODD, (delimiter, encoding, end)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_kind_of_file_gives_the_same_prompts(write: Write, mark: str, end: str) -> None:
    files = {
        "own.csv": ["nr,prompt", "1,Hi", '2,"Go, now"', ""],
        "own.tsv": ["nr\tprompt", "1\tHi", "2\tGo, now"],
        "own.txt": ["Hi", "", "Go, now", "  "],
        "own.jsonl": ['{"prompt": "Hi", "nr": 1}', "", '{"prompt": "Go, now", "nr": 2}', ""],
        "plain.jsonl": ['"Hi"', '"Go, now"'],
        "own.json": ['[{"prompt": "Hi"},', '{"prompt": "Go, now"}]'],
        "plain.json": ['["Hi", "Go, now"]'],
    }
    for name, lines in files.items():
        text = mark + end.join(lines)
        assert prompts.read(write(name, text)) == ["Hi", "Go, now"], name
        assert prompts.parse(text, name) == ["Hi", "Go, now"], name


def test_the_column_is_given_or_found(write: Write) -> None:
    path = write("own.csv", "frage,id\nWas?,1\n")
    assert prompts.read(path) == ["Was?"], "the only column of text"
    assert prompts.read(path, "id") == ["1"]
    both = write("both.csv", "prompt,target\nWhat?,That.\n")
    assert prompts.read(both) == ["What?"], "a usual name"
    assert prompts.read(both, "target") == ["That."]
    with pytest.raises(FileError, match=r"has no column 'goal'. Its columns are 'prompt', 'target'"):
        prompts.read(both, "goal")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("instruction,text", "2 columns may be it. Its columns are 'instruction', 'text': say column="),
        ("frage,antwort", "2 columns may be it. Its columns are 'frage', 'antwort'"),
        ("text,text", "two columns of one name"),
    ],
)
def test_an_ambiguous_table_lists_its_columns(write: Write, header: str, says: str) -> None:
    with pytest.raises(FileError, match=says):
        prompts.read(write("own.csv", f"{header}\na,b\n"))


def test_a_table_of_numbers_has_no_prompts(write: Write) -> None:
    with pytest.raises(FileError, match="no column of text is it. Its columns are 'a', 'b'"):
        prompts.read(write("own.csv", "a,b\n1,2\n"))


@pytest.mark.parametrize("first", ["How do I bake bread?", "Write a poem about the sea"])
def test_a_csv_file_without_a_header_does_not_lose_its_first_prompt(write: Write, first: str) -> None:
    path = write("own.csv", f"{first}\nWhat is tea\n")
    with pytest.raises(FileError, match="looks like a prompt and not like the name of a column"):
        prompts.read(path)
    assert prompts.read(path, first) == ["What is tea"]


def test_conversations_are_prompts(write: Write) -> None:
    named = write("named.jsonl", json.dumps({"messages": TALK, "id": "x"}) + "\n")
    bare = write("bare.jsonl", json.dumps(TALK) + "\n" + json.dumps("Hi"))
    assert prompts.read(named) == [TALK]
    assert prompts.read(bare) == [TALK, "Hi"]


def test_a_line_of_spaces_is_blank_in_a_table_too(write: Write) -> None:
    assert prompts.read(write("own.csv", "id,prompt\n1,Hi\n   \n2,Ho\n")) == ["Hi", "Ho"]
    with pytest.raises(PromptError, match="has empty prompts: line 4"):
        prompts.read(write("own.csv", "id,prompt\n1,Hi\n  \n2, \n"))


def test_the_line_in_which_excel_says_its_separator_is_no_header(write: Write) -> None:
    for mark in ("sep=;", "SEP=;\r"):
        assert prompts.read(write("own.csv", f'{mark}\nid;prompt\n1;"Hi, you, there"\n')) == [
            "Hi, you, there"
        ]
    assert prompts.read(write("own.csv", "sep=\t\nid\tprompt\n1\ta, b; c\n")) == ["a, b; c"]
    with pytest.raises(PromptError, match="has empty prompts: line 3"):
        prompts.read(write("own.csv", "sep=,\nid,prompt\n1,\n"))


def test_a_cell_may_be_of_any_length(write: Write) -> None:
    before, long = csv.field_size_limit(), "word " * 40_000 + "end"
    assert prompts.read(write("own.csv", f"id,prompt\n1,{long}\n")) == [long]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("own.json", r'["Hi", "a \ud800 b"]', "item 2"),
        ("own.jsonl", '"Hi"\n' + r'[{"role": "user", "content": "\ud800"}]', "line 2"),
    ],
)
def test_half_of_a_character_is_refused_with_its_place(
    write: Write, name: str, text: str, where: str
) -> None:
    says = rf"{where}: the prompt has half of a character in it, \\ud800"
    with pytest.raises(FileError, match=says):
        prompts.read(write(name, text))
    assert prompts.read(write("whole.json", r'["\ud83d\ude42"]')) == ["🙂"]


@pytest.mark.parametrize(
    "value", [7, 0, {}, {"role": "user"}, [{"role": "user", "content": 1}], ["Hi"], False]
)
def test_what_is_no_prompt_is_shown_with_its_line(write: Write, value: object) -> None:
    lines = [json.dumps({"prompt": item}) for item in ("Hi", value)]
    with pytest.raises(FileError, match=r"line 2: .* is no prompt"):
        prompts.read(write("own.jsonl", "\n".join(lines)))


def test_missing_and_unknown_files_say_what_to_do(tmp_path: Path, write: Write) -> None:
    with pytest.raises(FileError, match=r"there is no file .*nowhere.csv.*split=\"train\""):
        prompts.read(tmp_path / "nowhere.csv")
    with pytest.raises(FileError, match="there is no file"):
        prompts.read(tmp_path)
    with pytest.raises(FileError, match=r"own.xlsx is of no kind .* \.csv, \.tsv, \.json"):
        prompts.read(write("own.xlsx", "x"))


@pytest.mark.parametrize(
    "name_and_text",
    [
        ("own.csv", ""),
        ("own.csv", "prompt\n"),
        ("own.txt", "\n \n"),
        ("own.jsonl", ""),
        ("own.json", ""),
        ("own.json", "[]"),
    ],
)
def test_empty_files_are_refused(write: Write, name_and_text: tuple[str, str]) -> None:
    with pytest.raises(FileError, match="has no prompts"):
        prompts.read(write(*name_and_text))


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("own.csv", 'id,prompt\n1,"a\nb"\n2,\n3,Hi\n4," "\n', "line 4, line 6"),
        (
            "own.jsonl",
            '{"prompt": "Hi"}\n\n{"prompt": null}\n{"goal": "x", "prompt": []}\n',
            "line 3, line 4",
        ),
        ("own.jsonl", '{"prompt": "Hi"}\n{"nr": 1}\n', "line 2"),
        ("own.jsonl", '{"prompt": [{"role": "user", "content": " "}]}\n{"prompt": "Hi"}', "line 1"),
        ("own.json", '["Hi", ""]', "item 2"),
    ],
)
def test_empty_prompts_are_told_with_their_lines(write: Write, name: str, text: str, where: str) -> None:
    column = None if name == "own.json" else "prompt"
    with pytest.raises(PromptError, match=rf"has empty prompts: {where}\. Fill"):
        prompts.read(write(name, text), column)


def test_many_empty_prompts_are_counted(write: Write) -> None:
    with pytest.raises(PromptError, match=r"line 2, line 3, line 4, line 5, line 6 and 4 more"):
        prompts.read(write("own.csv", "id,prompt\n" + "1,\n" * 9))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("own.jsonl", '"Hi"\n\n{"prompt": \n', "line 3 is no JSON"),
        ("own.json", '"Hi"\n"Go"\n', r"the file is no JSON \(Extra data: line 2.*\.jsonl"),
        ("own.json", '{"prompt": "Hi"}', "one JSON object, not a list of prompts"),
        ("own.jsonl", "[" * 100_000, "line 1 is no JSON"),
        ("own.jsonl", '{"prompt": "Hi"}\n"Go"\n', "has no columns at line 2"),
        ("own.csv", "id,prompt\n1,Go, now\n", "line 2: 3 cells under 2 columns"),
        ("own.csv", 'id,prompt\n1,Hi\n2,"never closed\n', "line 3: no CSV"),
    ],
)
def test_damaged_files_say_where(write: Write, name: str, text: str, says: str) -> None:
    with pytest.raises(FileError, match=says):
        prompts.read(write(name, text))


def test_a_plain_text_has_no_column(write: Write) -> None:
    with pytest.raises(FileError, match=r"has no columns.*Leave column= out"):
        prompts.read(write("own.txt", "Hi\n"), "prompt")


def test_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes("Was heißt das?".encode("latin-1"))
    with pytest.raises(FileError, match=r"is not UTF-8 text: byte 7 .*Save it as UTF-8"):
        prompts.read(path)


def test_a_data_set_is_read_by_its_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, subset: str | None, *, split: str) -> list[dict[str, str]]:
        asked.append((name, subset, split))
        if split == "nothing":
            raise ValueError("Unknown split\nand more")
        return [{"goal": " Bake ", "target": "Sure"}, {"goal": "Brew", "target": "Sure"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert prompts.read("some/set", split="train[:2]", subset="easy") == ["Bake", "Brew"]
    assert asked == [("some/set", "easy", "train[:2]")]
    with pytest.raises(FileError, match=r"split 'nothing', could not be loaded \(Unknown split\)"):
        prompts.read("some/set", split="nothing")
    with pytest.raises(PromptError, match="no split was given"):
        prompts.read("some/set", subset="easy")


def test_without_the_package_a_data_set_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SteerlabError, match="pip install datasets"):
        prompts.read("some/set", split="train")


def test_two_columns_are_a_contrast_set(write: Write) -> None:
    path = write("own.csv", "positive,negative\nI love it,I hate it\nGreat,Awful\n")
    pairs = ContrastSet.read(path, name="mood")
    assert pairs == ContrastSet(["I love it", "Great"], ["I hate it", "Awful"], "mood")
    assert ContrastSet.read(path, "negative", "positive").positive == ("I hate it", "Awful")
    with pytest.raises(PromptError, match=r"has empty prompts: line 3"):
        ContrastSet.read(write("gap.csv", "positive,negative\na,b\nc,\n"))
