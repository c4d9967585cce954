"""The speed report that efficiency prizes ask for."""

from __future__ import annotations


def speed_rows(speed: dict) -> list[dict]:
    """The measurements of `lib.predict.speed.speed_of` as rows."""
    rows = {f"{part}, seconds": seconds for part, seconds in speed["parts"].items()}
    rows["seconds per test image"] = speed["seconds_per_image"]
    rows["seconds per megapixel"] = speed["seconds_per_megapixel"]
    rows["share of it in networks"] = speed["network_seconds"] / max(speed["test_seconds"], 1e-6)
    rows["networks"] = speed["networks"]
    rows["parameters of all, millions"] = speed["parameters"] / 1e6
    rows["peak memory, GiB"] = speed["peak_gib"]
    if "gpu_gib" in speed:
        rows["peak memory of the GPU, GiB"] = speed["gpu_gib"]
    return [{"speed": name, "value": value} for name, value in rows.items()]
