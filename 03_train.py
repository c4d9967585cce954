"""Stage 3: train members. A member is one network: one experiment, fold and seed.

    python 03_train.py configs/aerial.yaml                                     # all folds, all seeds
    python 03_train.py configs/aerial.yaml --train.folds 0 --train.seeds 42    # one member
    python 03_train.py configs/aerial.yaml --train.experiment big --model.architecture fpn --train.crop 512
    python 03_train.py configs/aerial.yaml --train.round 1                     # on the pseudo-labels of 04
    python 03_train.py configs/aerial.yaml --train.round 1 --train.folds all   # one network of all images and labels
    torchrun --nproc_per_node 4 03_train.py configs/aerial.yaml                # four GPUs share every batch

Start the same command once for each GPU, on one machine or on several that share the folder: each call takes members
that no other one trains.

Run the same command again after an interruption: training continues from the last saved state. Changed options train a
member again, and the finished member stays until the new one is complete. A changed metric or window size only
computes the scores again.

Each member writes to work/<name>/runs/<experiment>/fold<f>_seed<s>/:

    network.yaml, resolved.yaml                the architecture; all options
    metrics.jsonl                              loss, learning rate and scores during training
    last.pt                                    the state from which training continues
    {last,swa,ema,best}_weights.pt             weights for prediction
    done.json                                  scores on the fold's validation images, together and for each image

A member that is trained on all images is written to all_seed<s>/ and has no scores.
"""

import time

STARTED = time.monotonic()  # before the imports, because their seconds count for `train.time_limit`

from lib.errors import run_script
from lib.oof.member_scores import note_scores, score_again
from lib.oof.score_images import images_of_fold
from lib.preflight.forecast import scoring_seconds
from lib.report.evaluate_member import MemberEvaluation
from lib.report.page import update_report
from lib.session import Session
from lib.system.text_table import text_table
from lib.training.distributed import join_process_group
from lib.training.spread import is_spread, train_apart
from lib.training.time_limit import requested_members, training_jobs
from lib.training.train_member import tell_left, train_member
from lib.workspace import Member, read_json


def main(argv: list[str]) -> None:
    session = Session.open(argv, "03_train.py")
    processes = join_process_group(session.device)
    members, left, trained = requested_members(session), [], False
    if is_spread(session.config):
        train_apart(session, argv, members)
    for job in training_jobs(session, processes, members, scoring_time, STARTED):
        if job.is_finished():
            if processes.is_main:
                score_again(job.session, job.member)
            continue
        if not job.claim(left):
            continue
        train_member(job, MemberEvaluation)
        trained = True
        if processes.is_main:
            note_scores(job.session, job.member)
            update_report(job.session.config)
    processes.close()
    if processes.is_main:
        tell_left(left, trained)
    print(text_table([table_row(member) for member in members if (member.path / "done.json").is_file()]))


def scoring_time(session: Session, fold: int) -> float:
    """The estimated seconds to score a finished member on its fold's images."""
    validation = images_of_fold(session, fold)
    return scoring_seconds(validation, session.config, session.competition.channels)


def table_row(member: Member) -> dict:
    done = read_json(member.path / "done.json", {})
    return {
        "member": member.name, "OOF score": done["score"], "seconds": done["seconds"], "steps": done["steps"],
        "images/s": done["images_per_second"], "waiting for data": f"{done['waiting_share']:.0%}",
    }  # fmt: skip


if __name__ == "__main__":
    run_script(main)
