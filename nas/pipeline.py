"""From a latency budget to a measured model: the stages, in order.

Each stage is a function from inputs to an artifact in the workspace, named by the hash of those
inputs, so a second budget, data set or device redoes only what depends on it, and a run that was
killed goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from nas.choosing import check_budget, choose, read_trials, search
from nas.device import Trial, check_target, profile_target, verify
from nas.handover import check_output, hand_over, write_up
from nas.learning import develop, prepare_teacher, read_data, tokenize, train_supernet
from nas.report import Report
from nas.request import Run
from nas.teacher import inspect_teacher
from supernet.space import trimmed


def run_pipeline(run: Run, output: Path) -> Report:
    """Do everything, and hand over ``output``: the model, its ONNX form and the report.

    Raises:
        NasError: whatever a user can mend, in one line.
    """
    check_output(output, run.workspace.root)
    check_target(run.request.target)
    with run.workspace.lock():
        data = read_data(run)
        original = inspect_teacher(
            run.request.teacher, data.task, max_length=run.request.recipe.max_length
        )
        space = trimmed(run.request.space, original.architecture)
        profile = profile_target(run, space, original.shape)
        check_budget(run, space, original, profile)
        teacher = prepare_teacher(run, data)
        task = tokenize(run, data, teacher)
        supernet = train_supernet(run, space, teacher, task)
        found = search(run, space, supernet, profile, original, task)
        stages = [profile, teacher, supernet, found]

        too_slow: list[Trial] = []
        while True:
            choice = choose(run, found, original, too_slow)
            trials = read_trials(choice)
            student = develop(run, trials[-1].architecture, supernet, teacher, task)
            stages += [choice, student]
            final = verify(run, trials[-1], student, original)
            if final.met:
                break
            run.display.warn(f"the developed {final}: taking the next architecture")
            too_slow.append(final)
        report = write_up(run.request, final, trials, task, stages)
        hand_over(report, student, output)
    return report
