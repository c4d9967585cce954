"""The rooms behind the numbered scripts. Each imports only from those before it in `ORDER`; a test holds that.

failures, errors                  sentences for the user: stops, faults of files, lack of memory, and mistakes
artifacts                         what the files that stages write must hold, checked when they are read back
files, locks, digests, choices    files that are never half-written; one process at a time; hashes; measured choices
organiser_text, plugins           texts that organisers wrote; registries of families
tables, user_tables               columns of stages' tables; tables that users and organisers wrote
config                            every option: default, meaning, legal range, and which stages it affects
system                            processes, devices, memory, precision, the terminal
execution                         who does the work, and on which devices
imaging                           huge images: readers, grids of windows, stitching, connected components
models                            networks and their weight files
stage, workspace                  manifests: what a piece of work was made from; where every file lives
competition                       the organiser's side: images, labels, answers, metrics, run-lengths, the demo
stages, session                   what each stage is made from; what every stage works with
data                              tiles, folds, leaks between images, sampler, augmentation
training                          the trainer, losses, averaging, one member from start to end, `autotune`, rounds
propose                           `python -m lib init`
inference                         sliding window, multi-scale ensemble, test-time augmentation, backends
oof                               out-of-fold maps: predicted, counted, sampled, kept
pseudo, label_cleaning            pseudo-labels of unlabeled images; labels that look wrong
decision                          ensemble weights, hysteresis threshold, gates, post-processing: cross-fitted
submissions                       the ledger of answers, Kaggle's scores, the final choice
predict                           test images to answers, within a time limit where there is one
preflight, package, report        rehearsal and forecast; a folder for an offline notebook; pages, tables and pictures
own_images                        `python -m lib predict`: the ensemble on any images, without a competition
"""

ORDER = (
    "failures", "errors", "artifacts", "files", "locks", "digests", "choices", "organiser_text", "tables",
    "user_tables", "plugins", "config", "system", "execution", "imaging", "models", "stage", "workspace", "competition",
    "stages", "session", "data", "training", "propose", "inference", "oof", "pseudo", "decision", "label_cleaning",
    "submissions", "predict", "preflight", "package", "report", "own_images",
)  # fmt: skip
