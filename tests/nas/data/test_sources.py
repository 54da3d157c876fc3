"""Files of all formats are read as the documentation says."""

import re
from pathlib import Path

import pytest

from nas.data import pydoc, sources
from nas.data import task_data as data
from nas.data.columns import PAIR_COLUMNS, TEXT_COLUMNS, read_labels
from nas.data.tables import SUFFIXES
from nas.data.task_data import load_data, load_texts
from nas.tasks.classification import CLASSIFICATION
from nas.tasks.regression import REGRESSION
from nas.tasks.task import Task
from supernet.errors import NasError
from tests.nas.data.written import COLOURS, rows, texts, write

FORMATS = (*SUFFIXES, ".csv.gz", ".jsonl.gz", ".json.gz", ".CSV", ".TSV", ".Parquet", ".JSONL.GZ")


class TestSources:
    @pytest.mark.parametrize("suffix", FORMATS)
    def test_formats_agree(self, tmp_path, suffix):
        folder = tmp_path / "colours"
        for split, count in (("train", 30), ("dev", 6), ("test", 9)):
            write(folder / f"{split}{suffix}", rows(count, split))
        loaded = load_data(str(folder), seed=0)
        assert loaded.task == Task("colours", CLASSIFICATION, tuple(sorted(COLOURS)), "accuracy")
        assert loaded.train.text_a == tuple(f"train {i}" for i in range(30))
        assert [loaded.task.label_names[i] for i in loaded.test.labels] == [*COLOURS] * 3
        assert (len(loaded.validation), len(loaded.test)) == (6, 9)
        assert loaded.unlabelled == ()

    def test_csv_texts_stay_as_they_stand(self, tmp_path):
        odd = ["None", "007", "", "a,b", "NA", 'say "x"', "1e5", "two\nlines"]
        records = [{"text": text, "label": i % 2} for i, text in enumerate(odd * 5)]
        loaded = load_data(write(tmp_path / "odd.csv", records), seed=0)
        assert texts(loaded.train) | texts(loaded.validation) | texts(loaded.test) == set(odd)
        assert loaded.task.name == "odd"

    def test_utf8_with_byte_order_mark(self, tmp_path):
        path = tmp_path / "bom.csv"
        path.write_text("text,label\n" + "né,1\nzürich,2\n" * 10, encoding="utf-8-sig")
        assert texts(load_data(str(path), seed=0).train) == {"né", "zürich"}

    @pytest.mark.parametrize(
        "content",
        [
            '{"data": ROWS}',
            '{"version": "1", "data": ROWS}',
            '{"text": ["a", "b"], "label": [0, 1]}',
            '{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n',
            "ROWS",
        ],
    )
    def test_json_documents(self, tmp_path, content):
        records = '[{"text": "a", "label": 0}, {"text": "b", "label": 1}]'
        (tmp_path / "train.json").write_text(content.replace("ROWS", records))
        table = sources.read_source(str(tmp_path), (), None, seed=0, progress=None).tables["train"]
        assert table[["text", "label"]].to_dict("list") == {"text": ["a", "b"], "label": [0, 1]}

    @pytest.mark.parametrize(("delimiter", "kind"), [(";", REGRESSION), (",", CLASSIFICATION)])
    def test_commas_in_numbers(self, tmp_path, delimiter, kind):
        """As Excel writes them in half of the world, beside semicolons."""
        quote = '"' if delimiter == "," else ""
        lines = [f"t{i}{delimiter}{quote}{i % 5},{i % 10}{quote}" for i in range(40)]
        (tmp_path / "train.csv").write_text("\n".join([f"text{delimiter}label", *lines]))
        loaded = load_data(str(tmp_path), seed=0)
        assert loaded.task.kind == kind
        if kind == REGRESSION:
            assert loaded.train.labels.max() == 4.9

    def test_a_file_without_names_is_asked_for_them(self, tmp_path):
        (tmp_path / "train.csv").write_text("A fine book\tgood\nA bad one\tbad\n")
        with pytest.raises(NasError, match="does the file begin with a line of names"):
            load_data(str(tmp_path), seed=0)

    def test_windows_1252_is_told(self, tmp_path):
        path = tmp_path / "old.csv"
        path.write_bytes(("text;label\n" + "né;1\nzürich;2\n" * 10).encode("cp1252"))
        loaded = load_data(str(path), seed=0)
        assert texts(loaded.train) == {"né", "zürich"}
        assert loaded.reading.told == ("old.csv was read as Windows-1252, as it is no UTF-8",)

    def test_jsonl_strings_may_hold_any_separator(self, tmp_path):
        path = tmp_path / "odd.jsonl"
        record = '{"text": "one\u2028two\x85three", "label": %d}\r\n'
        path.write_text("".join(record % (i % 2) for i in range(20)), encoding="utf-8", newline="")
        assert texts(load_data(str(path), seed=0).train) == {"one\u2028two\x85three"}

    def test_shards_are_joined(self, tmp_path):
        for shard in range(3):
            write(tmp_path / f"train-0000{shard}-of-00003.parquet", rows(20, f"shard {shard}"))
        write(tmp_path / "test.parquet", rows(5, "test"))
        loaded = load_data(str(tmp_path), seed=0)
        assert len(loaded.train) + len(loaded.validation) == 60

    def test_unlabelled_file_comes_along_without_held_out_texts(self, tmp_path):
        write(tmp_path / "train.jsonl", rows(20))
        write(tmp_path / "test.jsonl", rows(6, "test"))
        write(tmp_path / "unlabelled.jsonl", [{"text": t} for t in ("new", "test 1", "new")])
        assert load_data(str(tmp_path), seed=0).unlabelled == ("new",)

    @pytest.mark.parametrize("columns", PAIR_COLUMNS)
    def test_pairs_are_known_by_their_columns(self, tmp_path, columns):
        records = [
            dict(zip(columns, (f"a{i}", f"b{i}"), strict=True), label=i % 2) for i in range(20)
        ]
        loaded = load_data(write(tmp_path / "pairs.parquet", records), seed=0)
        assert loaded.task.pair
        assert all(
            a[1:] == b[1:] for a, b in zip(loaded.train.text_a, loaded.train.text_b, strict=True)
        )

    def test_columns_by_name(self, tmp_path):
        records = [{"text": "no", "title": f"t{i}", "body": f"b{i}", "y": i % 2} for i in range(20)]
        source = write(tmp_path / "named.csv", records)
        single = load_data(source, text_columns="body", label_column="y", seed=0)
        assert single.train.text_a[0].startswith("b")
        pair = load_data(source, text_columns=["title", "body"], label_column="y", seed=0)
        assert pair.task.pair

    def test_hub_tables_keep_class_names_and_drop_hidden_labels(self):
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(
            {
                "sentence": datasets.Value("string"),
                "label": datasets.ClassLabel(names=["ugly", "bad", "good"]),
            }
        )

        def split(labels):
            columns = {"sentence": [f"s{i}" for i in range(len(labels))], "label": labels}
            return datasets.Dataset.from_dict(columns, features=features)

        loaded = datasets.DatasetDict(
            train=split([1, 2] * 9),
            validation=split([2, 1]),
            test=split([-1, -1]),
            other=split([1]),
        )
        tables = sources._hub_tables(loaded, "label")
        assert list(tables) == ["train", "validation"]
        names, labels = read_labels("s", tables, "label", None)[1:]
        assert names == ("ugly", "bad", "good")
        assert labels["validation"].tolist() == [2, 1]

    def test_hub_out_of_reach_is_one_line(self, monkeypatch):
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        with pytest.raises(NasError, match="not to be had from the hub") as caught:
            load_data("tailorbert/no-such-data", seed=0)
        assert "\n" not in str(caught.value)

    @pytest.mark.slow
    def test_pydoc_is_a_task_with_unlabelled_text(self):
        loaded = load_data("pydoc", seed=0)  # of the user's cache: other tests build it too
        assert loaded.task.label_names == tuple(pydoc.LIBRARIES)
        total = len(loaded.train) + len(loaded.validation) + len(loaded.test)
        assert total > 8 * 1000
        held_out = texts(loaded.validation) | texts(loaded.test)
        assert texts(loaded.train) < set(loaded.unlabelled)
        assert not held_out & set(loaded.unlabelled)
        assert len(load_texts("pydoc")) == len(loaded.unlabelled) + len(held_out)


DOCS = (Path(__file__).parents[3] / "docs" / "data.md").read_text()


CASES = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in DOCS.splitlines()
    if re.match(r"\| `a\.\w+` \|", line)
]


@pytest.mark.parametrize(("name", "content", "outcome"), CASES)
def test_what_the_documentation_says_of_a_file(tmp_path, name, content, outcome):
    path = tmp_path / name.strip("`")
    path.write_text(content.strip("`").replace("\\n", "\n").replace("\\t", "\t"), newline="")

    def found():
        known = (*TEXT_COLUMNS, "label")
        tables = sources.read_source(str(path), known, "label", seed=0, progress=None).tables
        columns = data.find_text_columns(str(path), tables["train"], None)
        _, names, labels = read_labels(str(path), tables, "label", None)
        (read,) = data.read_texts(str(path), "train", tables["train"], columns)
        return [
            f"{text} = {names[label] if names else label}"
            for text, label in zip(read, labels["train"], strict=True)
        ]

    if outcome.startswith("refused: "):
        with pytest.raises(NasError, match=re.escape(outcome.removeprefix("refused: "))):
            found()
    else:
        assert "; ".join(found()) == outcome


def test_the_documentation_has_cases_of_both_kinds():
    refused = sum(outcome.startswith("refused: ") for *_, outcome in CASES)
    assert 5 < refused < len(CASES) - 5
