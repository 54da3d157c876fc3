"""Sources, column conventions, splits, and one clear line for each fault."""

import dataclasses
import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.data import pydoc, sources
from nas.data import task_data as data
from nas.data.columns import PAIR_COLUMNS, TEXT_COLUMNS, read_labels
from nas.data.tables import SUFFIXES
from nas.data.task_data import Examples, TaskData, load_data, load_texts
from nas.settings import data_folder
from nas.tasks.classification import CLASSIFICATION
from nas.tasks.regression import REGRESSION
from nas.tasks.task import Task
from supernet.errors import NasError

COLOURS = ("red", "green", "blue")

FORMATS = (*SUFFIXES, ".csv.gz", ".jsonl.gz", ".json.gz", ".CSV", ".TSV", ".Parquet", ".JSONL.GZ")


def rows(count, prefix="text", labels=COLOURS):
    return [{"text": f"{prefix} {i}", "label": labels[i % len(labels)]} for i in range(count)]


def write(path, records):
    frame = pd.DataFrame(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.lower()
    if name.endswith(".parquet"):
        frame.to_parquet(path, index=False)
    elif name.endswith(".arrow"):
        table = pa.Table.from_pandas(frame)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    else:
        if ".csv" in name or ".tsv" in name:
            text = frame.to_csv(index=False, sep="\t" if ".tsv" in name else ",")
        elif ".jsonl" in name or ".ndjson" in name:
            text = "".join(json.dumps(record) + "\n" for record in records)
        else:
            text = json.dumps(records)
        content = text.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(path)


def texts(examples):
    return set(examples.text_a)


class TestExamples:
    def test_take_keeps_texts_and_labels_together(self):
        examples = Examples(("a", "b", "c"), ("x", "y", "z"), np.array([0, 1, 2]))
        taken = examples.take([2, 0])
        assert (taken.text_a, taken.text_b) == (("c", "a"), ("z", "x"))
        assert taken.labels.tolist() == [2, 0]
        assert len(taken) == 2

    def test_labels_are_a_read_only_copy(self):
        labels = np.array([0.5, 1.0], np.float32)
        examples = Examples(("a", "b"), None, labels)
        labels[0] = 9
        assert examples.labels.tolist() == [0.5, 1.0]
        assert examples.labels.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            examples.labels[0] = 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            examples.text_a = ()

    @pytest.mark.parametrize(
        ("text_b", "labels", "message"),
        [
            (("x",), None, "text_b has 1 texts, text_a 2"),
            (None, np.array([1]), r"labels of shape \(1,\) for 2 texts"),
            (None, np.array(["p", "q"]), "labels must be integer or float"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, text_b, labels, message):
        with pytest.raises(NasError, match=message):
            Examples(("a", "b"), text_b, labels)


class TestTask:
    def test_num_labels_is_the_width_of_the_head(self):
        assert Task("t", CLASSIFICATION, COLOURS, "f1").num_labels == 3
        assert Task("t", REGRESSION, (), "pearson_spearman").num_labels == 1

    @pytest.mark.parametrize(
        ("kind", "names", "metric"),
        [
            (CLASSIFICATION, ("one",), "accuracy"),
            (CLASSIFICATION, COLOURS, "pearson_spearman"),
            (REGRESSION, (), "accuracy"),
            (REGRESSION, COLOURS, "pearson_spearman"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, kind, names, metric):
        with pytest.raises(NasError):
            Task("t", kind, names, metric)


class TestDigest:
    def task_data(self, **changes):
        train = Examples(("a", "b"), None, np.array([0, 1]))
        held_out = Examples(("c",), None, np.array([1]))
        task = Task("t", CLASSIFICATION, ("no", "yes"), "accuracy")
        return TaskData(
            **{"task": task, "train": train, "validation": held_out, "test": held_out} | changes
        )

    def test_it_depends_on_content_alone(self):
        assert self.task_data().digest == self.task_data().digest
        other = dataclasses.replace(self.task_data(), unlabelled=("more",))
        assert other.digest == self.task_data().digest

    @pytest.mark.parametrize(
        "train",
        [
            Examples(("a", "d"), None, np.array([0, 1])),
            Examples(("b", "a"), None, np.array([0, 1])),
            Examples(("ab", ""), None, np.array([0, 1])),
            Examples(("a", "b"), ("a", "b"), np.array([0, 1])),
            Examples(("a", "b"), None, np.array([1, 0])),
            Examples(("a", "b"), None, np.array([0.0, 1.0])),
            Examples(("a", "b")),
        ],
    )
    def test_texts_pairs_labels_and_their_order_change_it(self, train):
        assert self.task_data(train=train).digest != self.task_data().digest

    def test_label_names_and_the_split_change_it(self):
        plain = self.task_data()
        renamed = Task("t", CLASSIFICATION, ("yes", "no"), "accuracy")
        swapped = self.task_data(train=plain.test, test=plain.train)
        assert len({plain.digest, self.task_data(task=renamed).digest, swapped.digest}) == 3


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


class TestLabels:
    def kind_of(self, tmp_path, labels, metric=None):
        records = [{"text": f"t{i}", "label": label} for i, label in enumerate(labels * 10)]
        return load_data(write(tmp_path / "all.jsonl", records), metric=metric, seed=0)

    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            ([10, 9, -1], ("-1", "9", "10")),
            (["b", "a"], ("a", "b")),
            ([True, False], ("False", "True")),
        ],
    )
    def test_classes_are_sorted(self, tmp_path, labels, names):
        loaded = self.kind_of(tmp_path, labels)
        assert loaded.task.label_names == names
        for text, label in zip(loaded.train.text_a, loaded.train.labels, strict=True):
            assert names[label] == str(labels[int(text[1:]) % len(labels)])

    def test_floats_are_a_regression(self, tmp_path):
        loaded = self.kind_of(tmp_path, [0, 2.5, 5])
        assert (loaded.task.kind, loaded.task.metric) == (REGRESSION, "pearson_spearman")
        assert set(loaded.train.labels) == {0.0, 2.5, 5.0}

    def test_metric_decides_the_kind(self, tmp_path):
        assert self.kind_of(tmp_path, [1, 2, 3], "pearson_spearman").task.kind == REGRESSION
        classes = self.kind_of(tmp_path, [0.0, 1.0], "matthews").task
        assert (classes.kind, classes.label_names) == (CLASSIFICATION, ("0", "1"))

    @pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
    def test_whole_numbers_are_classes_however_they_are_written(self, tmp_path, suffix):
        records = [{"text": f"t{i}", "label": float(i % 3)} for i in range(30)]
        task = load_data(write(tmp_path / f"all{suffix}", records), seed=0).task
        assert (task.kind, task.label_names) == (CLASSIFICATION, ("0", "1", "2"))

    def test_integers_in_one_file_and_floats_in_another_are_the_same_classes(self, tmp_path):
        write(tmp_path / "train.csv", rows(30, labels=[0, 1, 2]))
        write(tmp_path / "test.csv", rows(6, "test", labels=[2.0, 0.0]))
        loaded = load_data(str(tmp_path), seed=0)
        assert loaded.task.label_names == ("0", "1", "2")
        assert loaded.test.labels.tolist() == [2, 0] * 3

    def test_one_fraction_in_any_split_makes_values(self, tmp_path):
        write(tmp_path / "train.csv", rows(30, labels=[0, 1, 2]))
        write(tmp_path / "test.csv", rows(6, "test", labels=[2.5, 0.0]))
        assert load_data(str(tmp_path), seed=0).task.kind == REGRESSION

    @pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
    def test_class_names_of_a_schema_are_read(self, tmp_path, suffix):
        """As ``datasets`` writes them, in the order of the numbers and not of the alphabet."""
        table = pa.table({"text": [f"t{i}" for i in range(30)], "label": [0, 1, 2] * 10})
        feature = {"names": ["ugly", "bad", "good"], "_type": "ClassLabel"}
        info = {"info": {"features": {"label": feature, "text": {"_type": "Value"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        path = tmp_path / f"train{suffix}"
        if suffix == ".parquet":
            pq.write_table(table, path)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
                out.write_table(table)
        loaded = load_data(str(tmp_path), seed=0)
        assert loaded.task.label_names == ("ugly", "bad", "good")
        for text, label in zip(loaded.train.text_a, loaded.train.labels, strict=True):
            assert label == int(text[1:]) % 3

    def test_csv_numbers_are_numbers(self, tmp_path):
        for labels, kind in (([0, 1], CLASSIFICATION), ([0.5, 1.0], REGRESSION)):
            source = write(tmp_path / "numbers.csv", rows(20, labels=labels))
            assert load_data(source, seed=0).task.kind == kind


class TestSplits:
    def test_single_file_is_split_80_10_10(self, tmp_path):
        loaded = load_data(write(tmp_path / "all.parquet", rows(300)), seed=0)
        sizes = [len(split) for split in (loaded.train, loaded.validation, loaded.test)]
        assert sizes == [240, 30, 30]
        for split in (loaded.train, loaded.validation, loaded.test):
            counts = np.bincount(split.labels)
            assert counts.max() - counts.min() <= 1
        assert len(texts(loaded.train) | texts(loaded.validation) | texts(loaded.test)) == 300

    def test_without_validation_it_is_taken_from_train(self, tmp_path):
        write(tmp_path / "train.csv", rows(100))
        write(tmp_path / "test.csv", rows(7, "test"))
        loaded = load_data(str(tmp_path), seed=0)
        assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (90, 10, 7)
        assert not texts(loaded.train) & texts(loaded.validation)

    def test_without_test_the_validation_split_is_kept_for_the_last_figure(self, tmp_path):
        write(tmp_path / "train.csv", rows(100))
        write(tmp_path / "valid.csv", rows(7, "valid"))
        loaded = load_data(str(tmp_path), seed=0)
        assert loaded.test.text_a == tuple(f"valid {i}" for i in range(7))
        assert (len(loaded.train), len(loaded.validation)) == (90, 10)

    def test_seed_alone_decides(self, tmp_path):
        source = write(tmp_path / "all.csv", rows(100))
        first, again, other = (load_data(source, seed=seed) for seed in (3, 3, 4))
        assert first.test.text_a == again.test.text_a
        assert first.test.text_a != other.test.text_a

    def test_limit_cuts_train_alone_and_stays_stratified(self, tmp_path):
        source = write(tmp_path / "all.csv", rows(100, labels=["a", "a", "a", "b"]))
        full, cut = load_data(source, seed=0), load_data(source, seed=0, limit=20)
        assert np.bincount(cut.train.labels).tolist() == [15, 5]
        assert texts(cut.train) < texts(full.train)
        assert cut.test.text_a == full.test.text_a
        assert cut.validation.text_a == full.validation.text_a
        assert load_data(source, seed=0, limit=80).train.text_a == full.train.text_a

    def test_class_of_one_example_stays_in_train(self, tmp_path):
        records = [*rows(40), {"text": "rare", "label": "violet"}]
        for seed in range(20):
            loaded = load_data(write(tmp_path / "all.jsonl", records), seed=seed)
            assert "rare" in texts(loaded.train)

    @given(
        labels=st.lists(st.integers(0, 3), min_size=1, max_size=80),
        share=st.floats(0.01, 1.0),
        seed=st.integers(0, 1000),
    )
    def test_spread_gives_each_class_its_share(self, labels, share, seed):
        labels = np.array(labels)
        count = max(1, int(share * len(labels)))
        picked = data._spread(labels, count, np.random.default_rng(seed))
        assert len(set(picked.tolist())) == count
        assert (np.diff(picked) > 0).all()
        exact = np.bincount(labels, minlength=4) * count / len(labels)
        assert (abs(np.bincount(labels[picked], minlength=4) - exact) < 1 + 1e-9).all()


class TestFaults:
    """Each is one line that names the field, the value, and what is accepted."""

    def refuse(self, source, message, **options):
        with pytest.raises(NasError, match=message) as caught:
            load_data(str(source), seed=0, **options)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("source", ["/no/such/folder", "./nothing", "missing.csv", "~/a/b/c/d"])
    def test_missing_path(self, source):
        self.refuse(source, "no such file or folder")

    def test_unknown_home_folder(self):
        self.refuse("~no-such-user/data", "the home folder of ~no-such-user is unknown")

    def test_path_that_the_system_refuses(self):
        self.refuse("x" * 300, "cannot be read: File name too long")

    def test_folder_that_may_not_be_read(self, tmp_path):
        tmp_path.chmod(0)
        if os.access(tmp_path, os.R_OK):
            pytest.skip("this user may read everything")
        self.refuse(tmp_path, "cannot be read: Permission denied")

    def test_folder_without_data(self, tmp_path):
        self.refuse(tmp_path, "needs files named train, validation, test or all .*found nothing")
        for name in ("one.csv", "two.csv"):
            write(tmp_path / name, rows(3))
        self.refuse(tmp_path, r"found one.csv, two.csv")

    def test_unknown_suffix(self, tmp_path):
        (tmp_path / "data.xlsx").write_text("")
        self.refuse(tmp_path / "data.xlsx", "unknown file type; accepted: .parquet, .arrow, .csv")

    def test_two_files_for_one_split(self, tmp_path):
        write(tmp_path / "dev.csv", rows(3))
        write(tmp_path / "validation.csv", rows(3))
        self.refuse(tmp_path, "dev.csv and validation.csv are both validation")

    def test_all_beside_a_split(self, tmp_path):
        write(tmp_path / "all.csv", rows(3))
        write(tmp_path / "test.csv", rows(3))
        self.refuse(tmp_path, "all excludes others; found all, test")

    def test_no_train(self, tmp_path):
        write(tmp_path / "test.csv", rows(3))
        self.refuse(tmp_path, "no train split; found test")

    @pytest.mark.parametrize(
        ("suffix", "content"),
        [
            (".parquet", b"PAR1 but not really"),
            (".csv", b'text,label\n"open quote'),
            (".csv", b"text,label\n\x81\xfe,1\n"),
            (".csv", b""),
            (".jsonl", b'{"text": "a", "label": 1}\n{"text": '),
            (".jsonl", b"[1, 2]\n"),
            (".json", b"[1, 2]\n"),
            (".json", b'{"a": 1}{'),
            (".csv", b"text,label\na,1\nDear shop, hello,0\n"),
            (".csv.gz", b"text,label\na,1\n"),
            (".arrow", b"ARROW1 but not really"),
        ],
    )
    def test_corrupt_file(self, tmp_path, suffix, content):
        path = tmp_path / f"train{suffix}"
        path.write_bytes(content)
        self.refuse(tmp_path, f"not readable as {suffix.split('.')[1]}")

    def test_empty_split(self, tmp_path):
        write(tmp_path / "train.csv", rows(30))
        (tmp_path / "test.csv").write_text("text,label\n")
        self.refuse(tmp_path, "the test split is empty")
        (tmp_path / "train.csv").unlink()
        (tmp_path / "test.csv").rename(tmp_path / "train.jsonl")
        (tmp_path / "train.jsonl").write_text("\n")
        self.refuse(tmp_path, "the train split is empty")

    def test_absent_columns_name_those_present(self, tmp_path):
        source = write(tmp_path / "all.csv", rows(30))
        self.refuse(
            source, "no label column 'class' in train; found text, label", label_column="class"
        )
        self.refuse(
            source, "no text column 'body' in train; found text, label", text_columns="body"
        )
        self.refuse(source, "text_columns must be one column or two", text_columns=["a", "b", "c"])
        odd = write(tmp_path / "odd.csv", [{"words": "a", "label": 1}])
        self.refuse(
            odd,
            r"no text column among words, label; name it \(--text\), or use one of text, sentence",
        )

    def test_column_absent_in_one_split(self, tmp_path):
        write(tmp_path / "train.csv", rows(30))
        write(tmp_path / "test.csv", [{"text": "a"}])
        self.refuse(tmp_path, "no label column 'label' in test; found text")

    def test_class_unseen_in_train(self, tmp_path):
        write(tmp_path / "train.jsonl", rows(30))
        write(tmp_path / "test.jsonl", rows(3, labels=["mauve"]))
        self.refuse(tmp_path, "is 'mauve' in test, a class that train has not")

    @pytest.mark.parametrize(
        ("labels", "options", "message"),
        [
            ([0, None], {}, "'label' is empty in row 2 of train"),
            (["a", " "], {}, "'label' is empty in row 2 of train"),
            ([0.5, float("nan")], {}, "'label' is empty in row 2 of train"),
            ([0.5, float("inf")], {}, "'label' is infinite in row 2 of train"),
            (["same"], {}, "is 'same' in every row of train"),
            ([2.5], {}, "is 2.5 in every row of train"),
            ([0, "a"], {}, "holds mixed-integer values; accepted: all integer"),
            ([[0], [1]], {}, "holds mixed values; accepted: all integer"),
            (
                ["a", "b"],
                {"metric": "pearson_spearman"},
                "must be numeric for a regression, not 'a'",
            ),
            ([0.5, 1], {"metric": "f1"}, "must hold classes for such a metric, not 0.5"),
            ([0, 1], {"metric": "bleu"}, "metric 'bleu' is unknown; accepted: accuracy"),
            ([0, 1], {"limit": 1}, "limit must be at least 2"),
        ],
    )
    def test_labels(self, tmp_path, labels, options, message):
        self.refuse(write(tmp_path / "all.jsonl", rows(30, labels=labels)), message, **options)

    @pytest.mark.parametrize("text", [None, 3, ["a"]])
    def test_text_that_is_none(self, tmp_path, text):
        records = [*rows(30), {"text": text, "label": "red"}]
        source = write(tmp_path / "all.jsonl", records)
        self.refuse(source, "column 'text' of train must hold text; row 31 holds")

    def test_too_few_to_hold_out(self, tmp_path):
        self.refuse(write(tmp_path / "all.csv", rows(3)), "3 training examples are too few")


class TestTexts:
    def test_train_and_unlabelled_but_never_held_out(self, tmp_path):
        write(tmp_path / "train.csv", [{"text": t} for t in ("b", "a", "b")])
        write(tmp_path / "unlabelled.csv", [{"text": t} for t in ("c", "a")])
        write(tmp_path / "test.csv", [{"text": "secret"}])
        assert load_texts(str(tmp_path)) == ("b", "a", "c")

    def test_both_texts_of_a_pair(self, tmp_path):
        source = write(tmp_path / "pairs.csv", [{"premise": "p", "hypothesis": "h", "label": 1}])
        assert load_texts(source) == ("p", "h")
        assert load_texts(source, text_columns="hypothesis") == ("h",)

    def test_nothing_to_train_on(self, tmp_path):
        write(tmp_path / "test.csv", [{"text": "secret"}])
        with pytest.raises(NasError, match="no train or unlabelled split; found test"):
            load_texts(str(tmp_path))


REAL = {
    # name: metric, classes, pair, (train, validation, test)
    "trec": (None, 6, False, (4907, 545, 500)),
    "sst2": (None, 2, False, (67349, 872, 1821)),
    "cola": ("matthews", 2, False, (7696, 855, 1043)),
    "rte": (None, 2, True, (2241, 249, 277)),
    "stsb": (None, 1, True, (5749, 1500, 1379)),
    "agnews7600": (None, 4, False, (6080, 760, 760)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_data(name):
    folder = data_folder()
    if folder is None or not (folder / name).is_dir():
        pytest.skip(f"NAS_DATA names no folder with {name}")
    metric, num_labels, pair, sizes = REAL[name]
    loaded = load_data(str(folder / name), metric=metric, seed=0)
    assert (loaded.task.name, loaded.task.num_labels, loaded.task.pair) == (name, num_labels, pair)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == sizes


def test_real_unlabelled_text():
    folder = data_folder()
    if folder is None or not (folder / "wikitext2").is_dir():
        pytest.skip("NAS_DATA names no folder with wikitext2")
    assert len(load_texts(str(folder / "wikitext2"))) == 1731


# ---- the table of docs/data.md -------------------------------------------------------------------

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
