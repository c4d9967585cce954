"""Whole records as stages write them, of which a test says only what it is about."""


def done(**facts: object) -> dict:
    """done.json of a member."""
    return {
        "score": 0.5, "scores": {}, "images": {}, "seconds": 1.0, "steps": 10, "precision": "fp32",
        "images_per_second": 5.0, "waiting_share": 0.0, **facts,
    }  # fmt: skip


def manifest(**entries: object) -> dict:
    """A manifest of a stage."""
    return {"stage": "02_some", "seconds": 1.0, "outputs": [], "facts": {}, "made_from": {}, **entries}
