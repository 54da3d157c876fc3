"""From a latency budget to a measured model: the stages, in order.

Each stage is a function from inputs to an artifact in the workspace, named by the hash of those
inputs, so a second budget, data set or device redoes only what depends on it, and a run that was
killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from latency.fingerprint import Fingerprint
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.profiler import profile_device
from latency.runtimes import Model, bound, runtime_of, workload
from latency.target import Budget, Latency, Target
from latency.timing import Protocol, measure
from nas.data import Examples, TaskData, load_data, load_texts
from nas.evaluate import collator, score
from nas.export import MODEL, ONNX, export
from nas.progress import Display
from nas.recipe import Recipe
from nas.report import Calibration, Candidate, FrontPoint, Report
from nas.report import write as write_report
from nas.search.constraints import Limits
from nas.search.result import SearchResult
from nas.search.score_cache import ScoreCache
from nas.search.search import run_search
from nas.teacher import digest as teacher_digest
from nas.teacher import finetune, load_teacher, teacher_scores
from nas.tokenization import EncodedExamples, encode
from nas.workspace import SCRATCH, Artifact, Workspace
from supernet.architecture import Architecture, EncoderShape
from supernet.distill.augment import WordNeighbours
from supernet.distill.trainer import DistillTrainer
from supernet.errors import NasError
from supernet.importance import measure_importance, reorder
from supernet.model import Supernet
from supernet.sandwich import SandwichTrainer
from supernet.space import SearchSpace, trimmed

SCORES = "scores.json"

VERIFY = Protocol(rounds=40, block_ms=10.0)
"""How a candidate and the teacher are timed side by side: about a second each."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for.

    Args:
        teacher, data: sources, as :func:`nas.teacher.load_teacher` and
            :func:`nas.data.load_data` take them.
        budget: of latency on ``target``.
        space: the architectures to choose from; what the teacher cannot hold is left out.
        text_columns, label_column, metric: of the data, as :func:`nas.data.load_data` takes them.
        max_parameters, max_memory_bytes: optional caps on the model.
        seed: of all chance in the run.
    """

    teacher: str
    data: str
    budget: Budget
    space: SearchSpace
    target: Target
    recipe: Recipe
    text_columns: Sequence[str] | None = None
    label_column: str = "label"
    metric: str | None = None
    max_parameters: int | None = None
    max_memory_bytes: int | None = None
    seed: int = 0


def run(request: Request, workspace: Workspace, output: Path, display: Display) -> Report:
    """Do everything, and hand over ``output``: the model, its ONNX form and the report.

    Raises:
        NasError: whatever a user can mend, in one line.
    """
    check_output(output)
    with workspace.lock():
        data, digest = read_data(request, workspace, display)
        teacher = prepare_teacher(request, data, digest, workspace, display)
        task = tokenize(request, data, digest, teacher)
        largest = Supernet.from_pretrained(teacher.path / MODEL).largest
        space = trimmed(request.space, largest)
        supernet = train_supernet(request, space, teacher, task, workspace, display)
        profile = profile_target(request, space, teacher, workspace, display)
        found = search(request, space, supernet, profile, task, workspace, display)
        stages = [teacher, supernet, profile, found]

        too_slow: list[Trial] = []
        while True:
            choice = choose(request, found, profile, teacher, too_slow, workspace, display)
            trials = read_trials(choice)
            student = develop(
                request, trials[-1].architecture, supernet, teacher, task, workspace, display
            )
            stages += [choice, student]
            final = verify(request, trials[-1], student, teacher, display)
            if final.met:
                break
            display.warn(f"the developed {final}: taking the next architecture")
            too_slow.append(final)
        report = write_up(request, final, trials, task, stages, profile, found)
        hand_over(report, student, output)
    return report


# ---- what is learned from, and by whom -----------------------------------------------------------


@dataclass(frozen=True)
class EncodedTask:
    """A task's data, tokenized for its teacher."""

    data: TaskData
    digest: str
    tokenizer: PreTrainedTokenizerBase
    train: EncodedExamples
    validation: EncodedExamples
    test: EncodedExamples


def read_data(request: Request, workspace: Workspace, display: Display) -> tuple[TaskData, str]:
    """The task's data and the digest of every text and label in it."""
    with display.stage("Read the data") as bar:
        data = load_data(
            request.data,
            text_columns=request.text_columns,
            label_column=request.label_column,
            metric=request.metric,
            seed=request.seed,
            limit=request.recipe.limit,
            cache_dir=workspace.root / "data",
            progress=lambda _name, done, total: bar(done, total),
        )
    splits = (data.train, data.validation, data.test)
    display.say(
        f"data      {data.task.name}: {' + '.join(str(len(split)) for split in splits)} examples "
        f"(train, validation, test), {data.task.metric}"
    )
    return data, data_digest(data)


def prepare_teacher(
    request: Request, data: TaskData, digest: str, workspace: Workspace, display: Display
) -> Artifact:
    """Artifact ``teacher``: stock BERT with a head for the task, its tokenizer and its scores."""

    def build(folder: Path) -> None:
        teacher = load_teacher(request.teacher, data.task, seed=request.seed)
        if not teacher.has_head:
            with display.stage("Fine-tune the teacher") as bar:
                finetune(
                    teacher,
                    encode(data.train, teacher.tokenizer, request.recipe.max_length),
                    collator(teacher.tokenizer),
                    request.recipe.finetune,
                    folder,
                    seed=request.seed,
                    progress=bar,
                )
        teacher.model.save_pretrained(folder / MODEL)
        teacher.tokenizer.save_pretrained(folder / MODEL)
        scores = teacher_scores(teacher, data, request.recipe.max_length)
        (folder / SCORES).write_text(json.dumps(scores))

    inputs = {
        "teacher": teacher_digest(request.teacher),
        "data": digest,
        "finetune": asdict(request.recipe.finetune),
        "max_length": request.recipe.max_length,
        "seed": request.seed,
    }
    teacher = workspace.artifact("teacher", inputs, build)
    display.say(
        f"teacher   {data.task.metric} {read_scores(teacher)['validation']:.4f} (validation)"
    )
    return teacher


def tokenize(request: Request, data: TaskData, digest: str, teacher: Artifact) -> EncodedTask:
    """All splits as the teacher and every student read them."""
    tokenizer = AutoTokenizer.from_pretrained(teacher.path / MODEL)
    length = request.recipe.max_length
    encoded = {n: encode(examples, tokenizer, length) for n, examples in _splits(data).items()}
    return EncodedTask(data, digest, tokenizer, **encoded)


# ---- the supernet --------------------------------------------------------------------------------


def train_supernet(
    request: Request,
    space: SearchSpace,
    teacher: Artifact,
    task: EncodedTask,
    workspace: Workspace,
    display: Display,
) -> Artifact:
    """Artifact ``supernet``: the teacher ordered by importance, trained by the sandwich rule."""
    recipe = request.recipe
    collate = collator(task.tokenizer)

    def train(
        supernet: Supernet, title: str, data: EncodedExamples, settings: Any, folder: Path
    ) -> Supernet:
        """One training, whose result stands in ``folder`` when it has ended."""
        trained = folder / "trained"
        if not trained.is_dir():
            with display.stage(title) as bar:
                SandwichTrainer(
                    supernet, Supernet.from_pretrained(teacher.path / MODEL), space, data,
                    collate, settings, folder, seed=request.seed, progress=bar,
                ).run()  # fmt: skip
            supernet.save_pretrained(folder / "trained.tmp")
            os.replace(folder / "trained.tmp", trained)
        return Supernet.from_pretrained(trained)

    def build(folder: Path) -> None:
        supernet = ordered_supernet(request, teacher, task)
        scratch = folder / SCRATCH
        if recipe.general is not None:
            texts = load_texts(recipe.general.texts, cache_dir=workspace.root / "data")
            texts = texts[: recipe.general.limit]
            encoded = encode(Examples(texts), task.tokenizer, recipe.max_length)
            supernet = train(
                supernet, "Train the supernet on unlabelled text", encoded,
                recipe.general.settings, scratch / "general",
            )  # fmt: skip
        supernet = train(
            supernet, "Train the supernet on the task", task.train, recipe.supernet,
            scratch / "task",
        )  # fmt: skip
        supernet.save_pretrained(folder / MODEL)

    inputs = {
        "teacher": teacher.key,
        "data": task.digest,
        "space": space.to_dict(),
        "importance_examples": recipe.importance_examples,
        "general": recipe.general.model_dump(mode="json") if recipe.general else None,
        "supernet": asdict(recipe.supernet),
        "seed": request.seed,
    }
    supernet = workspace.artifact("supernet", inputs, build)
    display.say(f"supernet  {space.size:,} sub-networks of space {space.name}{_again(supernet)}")
    return supernet


def ordered_supernet(request: Request, teacher: Artifact, task: EncodedTask) -> Supernet:
    """The teacher as a supernet whose leading slices hold its most important units."""
    supernet = Supernet.from_pretrained(teacher.path / MODEL)
    rows = np.random.default_rng(request.seed).permutation(len(task.train))
    rows = rows[: request.recipe.importance_examples]
    collate = collator(task.tokenizer)
    batches = []
    for start in range(0, len(rows), 32):
        batch = collate([task.train[int(row)] for row in rows[start : start + 32]])
        batch.pop("labels", None)
        batches.append(batch)
    generator = torch.Generator().manual_seed(request.seed)
    reorder(supernet.weights, measure_importance(supernet.weights, batches, generator=generator))
    return supernet


# ---- the device ----------------------------------------------------------------------------------


def profile_target(
    request: Request,
    space: SearchSpace,
    teacher: Artifact,
    workspace: Workspace,
    display: Display,
) -> Artifact:
    """Artifact ``profile``: the measured kernels of the target, and the teacher's latency."""
    target = request.target

    def build(folder: Path) -> None:
        scratch = folder / SCRATCH / "profile.json"
        with display.stage(f"Profile {target}") as bar:
            profile = profile_device(
                target, space, time_budget_s=request.recipe.profile_s, seed=request.seed,
                path=scratch, progress=lambda share: bar(share, 1.0),
            )  # fmt: skip
        profile.save(folder / "profile.json")
        measured = time_side_by_side(target, [teacher_model(teacher, target)])
        (folder / "teacher.json").write_text(json.dumps({"samples_ms": measured[0].samples_ms}))

    inputs = {
        "target": target.to_dict(),
        "space": space.to_dict(),
        "seconds": request.recipe.profile_s,
        "teacher": teacher.key,
        "device": Fingerprint.of_this_machine().to_dict(),
        "seed": request.seed,
    }
    profile = workspace.artifact("profile", inputs, build)
    errors = load_predictor(profile).errors()
    display.say(
        f"device    {target}: predictions {errors.mape_percent:.1f}% off on average, "
        f"the teacher takes {teacher_latency(profile).p50_ms:.2f} ms{_again(profile)}"
    )
    return profile


def load_predictor(profile: Artifact) -> LatencyPredictor:
    return LatencyPredictor(Profile.load(profile.path / "profile.json")).fit()


def teacher_latency(profile: Artifact) -> Latency:
    return Latency.of(json.loads((profile.path / "teacher.json").read_text())["samples_ms"])


def teacher_model(teacher: Artifact, target: Target) -> Model:
    """The teacher's architecture, to be timed: weights do not matter for that."""
    supernet = Supernet.from_pretrained(teacher.path / MODEL)
    return runtime_of(target).model(supernet.largest, target, shape=supernet.shape)


def time_side_by_side(target: Target, models: Sequence[Model]) -> list[Latency]:
    """Latencies of models on one target, their blocks interleaved."""
    inputs = workload(target, EncoderShape())
    return measure([bound(model, inputs) for model in models], protocol=VERIFY)


# ---- the architecture ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """An architecture timed beside the teacher.

    Args:
        limit_ms: the budget; for a speed-up, by the teacher's latency in the same measurement.
        measured_ms: at the budget's percentile.
        met: whether it kept to the limit; a candidate must leave the recipe's headroom too.
    """

    architecture: Architecture
    predicted_ms: float
    limit_ms: float
    measured_ms: float
    p50_ms: float
    p95_ms: float
    teacher_p50_ms: float
    met: bool

    def __str__(self) -> str:
        relation = "within" if self.met else "over"
        return (
            f"{self.architecture} measures {self.measured_ms:.3g} ms, {relation} the budget of "
            f"{self.limit_ms:.3g} ms"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"architecture": self.architecture.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trial:
        return cls(**data | {"architecture": Architecture.from_dict(data["architecture"])})


def search(
    request: Request,
    space: SearchSpace,
    supernet: Artifact,
    profile: Artifact,
    task: EncodedTask,
    workspace: Workspace,
    display: Display,
) -> Artifact:
    """Artifact ``search``: the scored architectures and the front, for this budget."""
    budget_ms = request.budget.limit_ms(teacher_latency(profile).at(request.budget.percentile))
    limits = Limits(
        budget_ms * (1 - request.recipe.headroom),
        request.max_parameters,
        request.max_memory_bytes,
    )
    shape = Supernet.from_pretrained(supernet.path / MODEL).shape

    def build(folder: Path) -> None:
        weights = Supernet.from_pretrained(supernet.path / MODEL).eval()
        collate = collator(task.tokenizer)

        def validation_scores(architectures: Sequence[Architecture]) -> list[float]:
            return [
                score(
                    lambda batch: weights(**batch, architecture=architecture).logits,  # noqa: B023
                    task.validation, collate, task.data.task.metric,
                )
                for architecture in architectures
            ]  # fmt: skip

        scores = ScoreCache(
            workspace.root / "scores.jsonl", supernet=supernet.key, data=task.digest
        )
        with display.stage("Search") as bar:

            def show(progress: Any) -> None:
                bar(progress.scored, progress.planned)
                if progress.best_score is not None:
                    bar.note(f"best {progress.best_score:.4f}")

            result = run_search(
                space, load_predictor(profile).predict, validation_scores, limits,
                request.recipe.search, cache=scores, shape=shape, progress=show,
            )  # fmt: skip
        (folder / "search.json").write_text(result.to_json())

    inputs = {
        "supernet": supernet.key,
        "profile": profile.key,
        "data": task.digest,
        "limits": limits.to_dict(),
        "settings": request.recipe.search.to_dict(),
    }
    found = workspace.artifact("search", inputs, build)
    best = read_search(found).best
    display.say(
        f"search    {best.architecture}: predicted {best.latency_ms:.3g} ms, "
        f"{task.data.task.metric} {best.score:.4f} inherited{_again(found)}"
    )
    return found


def choose(
    request: Request,
    found: Artifact,
    profile: Artifact,
    teacher: Artifact,
    too_slow: Sequence[Trial],
    workspace: Workspace,
    display: Display,
) -> Artifact:
    """Artifact ``choice``: the best architecture that measures within the budget.

    Latency does not hang on the weights, so candidates are timed before any is developed. One
    that is over the budget tells by how much predictions here fall short, and the next is taken
    with so much in reserve.
    """
    result = read_search(found)

    def build(folder: Path) -> None:
        trials = list(too_slow)
        with display.stage("Time candidates on the device") as bar:
            while not (trials and trials[-1].met):
                bar(len(trials), request.recipe.candidates)
                if len(trials) - len(too_slow) >= request.recipe.candidates:
                    raise NasError(_unmet(request, trials))
                reserve = min((t.limit_ms / t.measured_ms for t in trials), default=1.0)
                limit_ms = min(
                    [result.limits.latency_ms * reserve]
                    + [0.999 * trial.predicted_ms for trial in trials]
                )
                pick = result.best_within(limit_ms)
                if pick is None:
                    raise NasError(_unmet(request, trials))
                trials.append(
                    _timed(request, pick.architecture, pick.latency_ms, teacher, headroom=True)
                )
                if not trials[-1].met:
                    display.warn(f"{trials[-1]}: trying the next")
        (folder / "choice.json").write_text(json.dumps([trial.to_dict() for trial in trials]))

    inputs = {
        "search": found.key,
        "profile": profile.key,
        "budget": str(request.budget),
        "headroom": request.recipe.headroom,
        "candidates": request.recipe.candidates,
        "too_slow": [trial.architecture.to_dict() for trial in too_slow],
    }
    choice = workspace.artifact("choice", inputs, build)
    display.say(f"choice    {read_trials(choice)[-1]}{_again(choice)}")
    return choice


def _timed(
    request: Request,
    architecture: Architecture,
    predicted_ms: float,
    teacher: Artifact,
    *,
    model: Model | None = None,
    headroom: bool,
) -> Trial:
    """Time ``architecture`` (or the finished ``model`` of it) beside the teacher."""
    target, budget = request.target, request.budget
    if model is None:
        shape = Supernet.from_pretrained(teacher.path / MODEL).shape
        model = runtime_of(target).model(architecture, target, shape=shape)
    ours, theirs = time_side_by_side(target, [model, teacher_model(teacher, target)])
    limit_ms = budget.limit_ms(theirs.at(budget.percentile))
    measured_ms = ours.at(budget.percentile)
    spare = request.recipe.headroom if headroom else 0.0
    return Trial(
        architecture=architecture,
        predicted_ms=predicted_ms,
        limit_ms=limit_ms,
        measured_ms=measured_ms,
        p50_ms=ours.p50_ms,
        p95_ms=ours.p95_ms,
        teacher_p50_ms=theirs.p50_ms,
        met=measured_ms <= limit_ms * (1 - spare),
    )


def _unmet(request: Request, trials: Sequence[Trial]) -> str:
    fastest = min(trial.measured_ms for trial in trials)
    return (
        f"no scored architecture measures within {request.budget} on {request.target}; the fastest "
        f"timed took {fastest:.3g} ms: ask for more, or search with more evaluations"
    )


# ---- the model -----------------------------------------------------------------------------------


def develop(
    request: Request,
    architecture: Architecture,
    supernet: Artifact,
    teacher: Artifact,
    task: EncodedTask,
    workspace: Workspace,
    display: Display,
) -> Artifact:
    """Artifact ``student``: the architecture extracted, distilled further, exported and scored."""
    settings = request.recipe.distill
    collate = collator(task.tokenizer)

    def build(folder: Path) -> None:
        student = Supernet.from_pretrained(supernet.path / MODEL).extract(architecture)
        guide = Supernet.from_pretrained(teacher.path / MODEL)
        neighbours = WordNeighbours.from_embeddings(
            guide.weights.bert.embeddings.word_embeddings.weight,
            task.tokenizer,
            task.train.columns["input_ids"],
        )
        with display.stage("Distil the chosen architecture") as bar:
            DistillTrainer(
                student, guide, task.train, collate, settings, folder,
                seed=request.seed, neighbours=neighbours, progress=bar,
            ).run()  # fmt: skip
        student.eval()
        rows = range(min(8, len(task.test)))
        sample = collate([task.test[row] for row in rows])
        sample.pop("labels")
        export(student, task.tokenizer, folder, sample=sample)
        scores = {
            name: score(
                lambda batch: student(**batch).logits, examples, collate, task.data.task.metric
            )
            for name, examples in (("validation", task.validation), ("test", task.test))
        }
        (folder / SCORES).write_text(json.dumps(scores))

    inputs = {
        "architecture": architecture.to_dict(),
        "supernet": supernet.key,
        "teacher": teacher.key,
        "data": task.digest,
        "distill": asdict(settings),
        "seed": request.seed,
    }
    student = workspace.artifact("student", inputs, build)
    scores = read_scores(student)
    display.say(f"student   {task.data.task.metric} {scores['test']:.4f} (test){_again(student)}")
    return student


def verify(
    request: Request, chosen: Trial, student: Artifact, teacher: Artifact, display: Display
) -> Trial:
    """Time the finished model's own file; a miss is measured once more before it counts."""
    model = load_exported(student.path, request.target)
    with display.stage("Verify on the device"):
        for _ in range(2):
            final = _timed(
                request, chosen.architecture, chosen.predicted_ms, teacher, model=model,
                headroom=False,
            )  # fmt: skip
            if final.met:
                break
    return final


def load_exported(folder: Path, target: Target) -> Model:
    """The exported model in the form that the target's runtime serves."""
    path = folder / (ONNX if target.runtime == "onnxruntime" else MODEL)
    return runtime_of(target).load(path, target)


# ---- handing over --------------------------------------------------------------------------------


def write_up(
    request: Request,
    final: Trial,
    trials: Sequence[Trial],
    task: EncodedTask,
    stages: Sequence[Artifact],
    profile: Artifact,
    found: Artifact,
) -> Report:
    """The report of a run that met its budget."""
    teacher, student = stages[0], stages[-1]
    shape = Supernet.from_pretrained(teacher.path / MODEL).shape
    largest = Supernet.from_pretrained(teacher.path / MODEL).largest
    seconds: dict[str, float] = {}
    for artifact in stages:
        spent = 0.0 if artifact.reused else artifact.seconds
        seconds[artifact.stage] = seconds.get(artifact.stage, 0.0) + spent
    predictor = load_predictor(profile)
    measured = Profile.load(profile.path / "profile.json")
    models = [entry.architecture for entry in measured.models]
    fingerprint = Fingerprint.of_this_machine()
    split = " + ".join(str(len(s)) for s in (task.train, task.validation, task.test))
    return Report(
        budget_ms=final.limit_ms,
        budget_percentile=request.budget.percentile,
        target=request.target.to_dict(),
        architecture=final.architecture,
        predicted_p50_ms=final.predicted_ms,
        measured_p50_ms=final.p50_ms,
        measured_p95_ms=final.p95_ms,
        teacher_p50_ms=final.teacher_p50_ms,
        metric=task.data.task.metric,
        score=read_scores(student)["test"],
        teacher_score=read_scores(teacher)["test"],
        split="test",
        parameters=final.architecture.parameters(shape),
        teacher_parameters=largest.parameters(shape),
        stages=seconds,
        seed=request.seed,
        versions=fingerprint.versions,
        data=f"{task.data.task.name}: {split} examples (train, validation, test)",
        device=fingerprint.to_dict(),
        settings={
            "teacher": request.teacher,
            "data": request.data,
            "budget": str(request.budget),
            "space": request.space.name,
            "recipe": request.recipe.to_dict(),
        },
        front=tuple(
            FrontPoint(point.architecture, point.latency_ms, point.score, evaluated=True)
            for point in read_search(found).front
        ),
        candidates=tuple(
            Candidate(trial.architecture, trial.predicted_ms, trial.p50_ms, trial.met)
            for trial in trials
        ),
        calibration=tuple(
            Calibration(float(predicted), latency.p50_ms)
            for predicted, latency in zip(
                predictor.predict(models), measured.model_latencies(), strict=True
            )
        ),
        predictor_errors=predictor.errors().to_dict(),
    )


def check_output(output: Path) -> None:
    """Refuse to write over what no run of ours has made.

    Raises:
        NasError: a file, or a folder with other content.
    """
    if output.is_dir() and (not any(output.iterdir()) or (output / "report.json").is_file()):
        return
    if output.exists():
        raise NasError(f"output {output} exists and is no earlier result: choose another folder")


def hand_over(report: Report, student: Artifact, output: Path) -> None:
    """Write the result beside ``output``, then put it in its place whole."""
    output = output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        shutil.copytree(student.path / MODEL, fresh / MODEL)
        shutil.copy2(student.path / ONNX, fresh / ONNX)
        write_report(report, fresh)
        if output.exists():
            os.rename(output, Path(scratch) / "old")
        os.rename(fresh, output)


# ---- reading artifacts ---------------------------------------------------------------------------


def read_scores(artifact: Artifact) -> dict[str, float]:
    scores: dict[str, float] = json.loads((artifact.path / SCORES).read_text())
    return scores


def read_search(artifact: Artifact) -> SearchResult:
    return SearchResult.from_json((artifact.path / "search.json").read_text())


def read_trials(artifact: Artifact) -> list[Trial]:
    return [Trial.from_dict(d) for d in json.loads((artifact.path / "choice.json").read_text())]


def data_digest(data: TaskData) -> str:
    """The sha256 of every text and label, in order."""
    digest = hashlib.sha256()
    for name, examples in _splits(data).items():
        labels = None if examples.labels is None else examples.labels.tolist()
        content = [name, examples.text_a, examples.text_b, labels, data.task.label_names]
        digest.update(json.dumps(content).encode())
    return digest.hexdigest()


def _splits(data: TaskData) -> dict[str, Examples]:
    return {"train": data.train, "validation": data.validation, "test": data.test}


def _again(artifact: Artifact) -> str:
    return " (from the workspace)" if artifact.reused else f" ({artifact.seconds:.0f} s)"
