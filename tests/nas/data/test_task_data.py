"""A task's examples: their digest, their splits, their texts, and the data sets we know."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.data import task_data as data
from nas.data.task_data import Examples, TaskData, load_data, load_texts
from nas.settings import data_folder
from nas.tasks.classification import CLASSIFICATION
from nas.tasks.regression import REGRESSION
from nas.tasks.task import Task
from supernet.errors import NasError
from tests.nas.data.written import COLOURS, rows, texts, write


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

    @pytest.mark.parametrize(
        ("limit", "name"), [("limit", "train"), ("validation_limit", "validation")]
    )
    def test_a_limit_cuts_its_split_alone_and_stays_stratified(self, tmp_path, limit, name):
        source = write(tmp_path / "all.csv", rows(400, labels=["a", "a", "a", "b"]))
        full, cut = load_data(source, seed=0), load_data(source, seed=0, **{limit: 20})
        assert np.bincount(cut.splits[name].labels).tolist() == [15, 5]
        assert texts(cut.splits[name]) < texts(full.splits[name])
        for other in {"train", "validation", "test"} - {name}:
            assert cut.splits[other].text_a == full.splits[other].text_a
        large = load_data(source, seed=0, **{limit: 400})
        assert large.splits[name].text_a == full.splits[name].text_a

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
