"""What a replay learns, as a whole that can be gathered in parts."""

import dataclasses
from collections.abc import Sequence

from edge_exray import errors
from edge_exray.frames.examples import Example
from edge_exray.frames.functions import UserFunctions
from edge_exray.replay.environments import parse_all
from edge_exray.replay.failures import FrameFailures
from edge_exray.replay.input_samples import InputSample, source_of
from edge_exray.replay.kept_frames import KeptFrames
from edge_exray.replay.replayer import Prediction, Replayer
from edge_exray.replay.sampling import Sampling
from edge_exray.replay.statistics import ReplayStatistics
from edge_exray.replay.worst_frames import WorstFrame, answer_drift


@dataclasses.dataclass(frozen=True)
class TallyOptions:
    """How frames are replayed and what is kept of them.

    Attributes:
        slice_keys: Features whose values name slices.
        max_failed_frames: How many frames may fail; with 0 the first failure ends the replay with its own error.
        worst_frames: How many of the worst frames are kept with their tensors.
        input_samples: Of how many frames the inputs of both sides are kept, where an app prepares its own: what it does
            differently is searched on these.
        environments: Names of environments that the edge model also answers in, see `Environment`.
        sampling: Which frames the expensive legs see; the outputs are compared for every frame.

    Raises:
        SpecError: A number is negative, or there is no such environment.
    """

    slice_keys: tuple[str, ...] = ()
    max_failed_frames: int = 0
    worst_frames: int = 5
    input_samples: int = 16
    environments: Sequence[str] = ()
    sampling: Sampling = dataclasses.field(default_factory=Sampling)

    def __post_init__(self) -> None:
        for name in ("max_failed_frames", "worst_frames", "input_samples"):
            if getattr(self, name) < 0:
                raise errors.SpecError(f"{name} must be 0 or more, is {getattr(self, name)}")
        parse_all(self.environments)


class Tally:
    """What is learned of some of the frames: statistics, failures, worst frames, samples; each merges with its kind.

    Args:
        replayer: The models, aligned.
        functions: The user's functions.
        options: See `TallyOptions`.
    """

    def __init__(self, replayer: Replayer, functions: UserFunctions, options: TallyOptions) -> None:
        self._replayer = replayer
        self._replayer.sampling = options.sampling
        self._replayer.environments.chosen = parse_all(options.environments)
        self._functions = functions
        self._options = options
        self.statistics = ReplayStatistics()
        self.failures = FrameFailures()
        self.worst = KeptFrames[WorstFrame](options.worst_frames)
        self.samples = KeptFrames[InputSample](options.input_samples)

    def replay(self, example: Example | errors.DataError, place: str) -> Prediction | None:
        """Replays one example.

        Args:
            example: The example, or why there is none.
            place: Where it is in the data.

        Returns:
            The answers; None when the frame failed, which leaves no trace but in `failures`.

        Raises:
            ExrayError: The frame failed and none may.
            DataError: More frames failed than may.
        """
        tolerant = self._options.max_failed_frames > 0
        # A frame can fail when half of its layers have been compared.
        statistics = ReplayStatistics() if tolerant else self.statistics
        self.failures.frames += 1
        try:
            prediction = self._replay(example, place, statistics)
        except errors.ExrayError as e:
            if not tolerant:
                raise
            self.failures.add(e, place)
            self.failures.check(self._options.max_failed_frames)
            return None
        if tolerant:
            self.statistics.merge(statistics)
        return prediction

    def _replay(self, example: Example | errors.DataError, place: str, statistics: ReplayStatistics) -> Prediction:
        if isinstance(example, errors.DataError):
            raise example
        frame = self._replayer.frame(example, self._functions, self._options.slice_keys)
        try:
            prediction = self._replayer.replay(frame, statistics)
        except errors.ExrayError as e:
            raise type(e)(e.reason, frame.id) from e
        except ValueError as e:  # two runs of a tensor of unknown size differ in it
            raise errors.DataError(f"the models disagree in the shape of a tensor: {e}", frame.id) from e
        app = {name: self._replayer.edge.inputs[name].fed(value) for name, value in (frame.edge or {}).items()}
        drift = answer_drift(prediction.cloud, prediction.edge)
        answers = prediction.cloud, prediction.edge
        self.worst.add(WorstFrame(frame.id, place, frame.label, drift, frame.reference, app, *answers))
        if app and frame.edge is not frame.reference:
            self.samples.add(InputSample(frame.id, place, frame.reference, app, source_of(example)))
        return prediction
