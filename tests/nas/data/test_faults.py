"""Each fault of a data set is one clear line."""

import os

import pytest

from nas.data.task_data import load_data
from supernet.errors import NasError
from tests.nas.data.written import rows, write


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
            ([0, 1], {"limit": 1}, "limit must be at least 2 examples, not 1"),
            (
                [0, 1],
                {"validation_limit": 1},
                "validation_limit must be at least 2 examples, not 1",
            ),
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
