"""Options that had another name: files that hold old names stay readable."""

OLD_NAMES = {
    "train.sampling.alike": "train.sampling.balance",
    "train.shortest": "train.min_member_time",
    "pseudo.by": "pseudo.confidence",
    "pseudo.sure": "pseudo.pixel_confidence",
    "pseudo.min_sure": "pseudo.min_confidence",
    "clean.confirm": "clean.in_sample_weight",
    "clean.bad": "clean.on_bad_label",
    "infer.weights": "infer.checkpoints",
    "infer.members": "infer.ensemble_weights",
    "infer.mean": "infer.averaging",
    "infer.pays": "infer.min_gain",
    "infer.decide": "infer.postprocess",
}
"""Old name -> today's name."""
