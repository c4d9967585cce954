"""How experiments of pseudo-label rounds are called."""


def round_experiment(experiment: str, round_: int) -> str:
    """Name of an experiment's members in a pseudo-label round.

    >>> round_experiment("base", 0), round_experiment("base", 2)
    ('base', 'base-r2')
    """
    return experiment if not round_ else f"{experiment}-r{round_}"
