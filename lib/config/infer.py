"""05: from members to one decision."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from lib.config.section import Section


class Infer(Section):
    """Windows, test-time augmentation, ensemble, decision."""

    experiments: list[str] = []
    """Experiments whose members are averaged; empty for the best pseudo-label round's."""
    weights: list[Literal["swa", "ema", "best", "last", "epochs", "mean", "soup"]] = ["swa"]
    """Which weights of each member take part. `swa` falls back to `last` where SWA was off; `epochs` are all the
    checkpoints that `train.checkpoints` kept, `mean` the average of their weights, `soup` as in `train.soup`."""
    window: Annotated[int, Ge(0)] = 0
    """Side of the inference window after `scale`; 0 for the size trained on. Larger sees more context."""
    overlap: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    """Share of a window that the next one covers again; 0 for none."""
    scale: Annotated[float, Ge(0)] = 0
    """Scale at which images are read; 0 for the one trained on."""
    blend: Literal["gaussian", "constant", "linear", "center"] = "gaussian"
    """Weight of a window's pixels in the overlaps; `center` trusts only what is `margin` off the rim."""
    margin: Annotated[float, Interval(ge=0, lt=0.5)] = 0.25
    """Blend center: rim on each side, as a share of the window."""
    roi: str = "content"
    """Where windows are computed: `none` (everywhere), `content` (not on blank areas), or a CSV of
    boxes with columns `image_id,y,x,height,width` in original pixels."""
    tta: Literal["none", "free", "flips", "d4"] = "none"
    """Test-time augmentation: horizontal and vertical flips (4 views), or all 8 of the square. `free`: each window is
    seen once, but its neighbours flipped otherwise, so that their overlaps average views."""
    batch_size: Annotated[int, Ge(1)] = 8
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """`auto` times two forward passes of each and takes the fastest whose maps agree."""
    backend: str = "auto"
    """`eager`, `compile`, `openvino` (an optional package), or `auto`, which tries what is installed on a few
    windows until the whole work takes less than five minutes, and takes the fastest whose maps agree."""
    gate: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """A class is left out of a window where the classification head finds it less likely than this; 0 for never."""
    threshold: Literal["fit", "half"] = "fit"
    """Threshold of one class: fitted on out-of-fold maps, or 0.5."""
    tag: str = "ensemble"
    """Goes into the submission's file name."""
    max_gib: Annotated[float, Gt(0)] = 0.25
    """Memory for the rows of an image that are being worked on; what is more waits in a file."""


class Report(Section):
    """What is shown."""

    pictures: Annotated[int, Ge(0)] = 6
    """How many of the worst, best and most uncertain images are drawn each; they are among a fold's first 16."""
    tracker: str = "none"
    """Where 03's numbers, and pictures of the worst images' masks, go besides metrics.jsonl: `none`, `wandb`,
    `tensorboard` (optional packages), or a plugin's."""
    tracker_mode: Literal["online", "offline", "disabled"] = "online"
    """Of Weights & Biases; what `offline` wrote is sent later by `wandb sync`."""
