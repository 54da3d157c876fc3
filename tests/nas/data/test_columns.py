"""Columns of labels make classes or values, in the same order from every format."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nas.data.task_data import load_data
from nas.tasks.classification import CLASSIFICATION
from nas.tasks.regression import REGRESSION
from tests.nas.data.written import rows, write


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
