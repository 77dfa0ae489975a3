"""A run, complete: data, algorithm, length, seed, cadence. What a recipe returns and `recipe.json` holds."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import types
import typing
from dataclasses import dataclass, replace
from inspect import isabstract
from typing import Any, Literal

from zerosum import algorithms
from zerosum.data.adaptive import MORE
from zerosum.data.augment import POLICIES, Policy
from zerosum.data.spec import Data, Spec
from zerosum.engine import Compile, MemoryFormat, Precision
from zerosum.errors import UserError
from zerosum.game import Adam, Algorithm
from zerosum.networks import Networks, Translators
from zerosum.schedule import Constant, Schedule

FORMAT = 1
KINDS = (Algorithm, Networks, Translators)  # of which a recipe names the class


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides what a run does. Lengths and cadences are in real images seen."""

    data: Data
    algorithm: Algorithm
    adam_g: Adam
    """The optimiser of every player whose name does not start with D."""
    adam_d: Adam
    """The optimiser of every player whose name starts with D."""
    batch_size: int = 64
    """Real images a D turn sees, over all processes."""
    images: int | None = None
    """Stop after this many real images."""
    minutes: float | None = None
    """Stop after this many minutes of training, if that comes first."""
    until: Literal["length", "converged"] = "length"
    """converged: end before the length is reached, when the probes say that going on is not worth it."""
    seed: int = 0
    """All randomness of the run is keyed by it."""
    conditional: bool = False
    """Tell both players the labels (class-conditional)."""
    class_balance: Literal["found", "even"] = "found"
    """Show D the classes as often as the data have them, or each as often as every other."""
    labelled: int | None = None
    """Use so many of the labels alone, drawn by the seed, as many of each class: for --algorithm ssgan."""
    precision: Precision = "auto"
    """fp32, bf16 (mixed; penalties stay in fp32), fp64 (for proofs), or auto: what a trial finds quickest here."""
    memory_format: MemoryFormat = "auto"
    """How images lie in memory: contiguous, channels_last, or auto: what a trial finds quickest here."""
    compile: Compile = "auto"
    """Compile the networks' forwards: on, off, or auto: tried where the run is long enough to pay
    for it, and never while they grow."""
    augment: tuple[Policy, ...] = ()
    """What D sees, real and fake, passes these first, for few images: colour, translation, cutout (DiffAugment), or
    adaptive (ADA), as strong as D overfits, and beside that filtering, noise and adaptive_cutout."""
    augment_images: int = 500_000
    """How many images D sees until adaptive augmentation may have gone from none to all; each of two critics' count.
    `zerosum train` fits it to the run's length."""
    ema_half_life: Schedule = Constant(10_000)
    """Half-life, in images, of the average of G's weights that is sampled; 0 for none, which spares its memory."""
    micro_batches: int = 1
    """Split each batch into this many pieces where memory is short; the result is the same, but for what dropout,
    noise and augmentation draw."""
    log_every: int = 2_000
    """Images between two lines of the log."""
    probe_every: int = 10_000
    """Images between two probes: quick measurements of the samples and of D that change nothing; 0 for none."""
    regret_every: int = 0
    """Images between two rehearsals: what each player could still gain by a few more turns, on copies; 0 for none."""
    grid_every: int = 10_000
    """Images between two sample grids: the frames of the film."""
    checkpoint_every: int = 50_000
    """Images between two checkpoints."""
    threads: int | None = None
    """Processor threads; all cores if not given."""

    def made(self, spec: Spec) -> Spec:
        """What its generator makes, of what its networks see: of a semi-supervised game, images of no known class."""
        return replace(spec, classes=0) if self.algorithm.labels == "critic" else spec

    def sees(self, spec: Spec) -> Spec:
        """What its networks see of these data. UserError if it asks for what they do not have."""
        if self.conditional and not spec.classes:
            raise UserError(
                "--conditional True: this data has no labels; sort it into a folder a class, drop the option, or "
                "choose an --algorithm that needs no classes"
            )
        if self.augment and not spec.is_image:
            raise UserError(f"--augment {' '.join(self.augment)}: is for images, and the data are points; drop it")
        if "adaptive" not in self.augment and (alone := [policy for policy in MORE if policy in self.augment]):
            raise UserError(
                f"--augment {' '.join(self.augment)}: {alone[0]} is as strong as D overfits; give adaptive with it"
            )
        if "adaptive" in self.augment and self.algorithm.boundary is None:
            raise UserError(
                "--augment adaptive: follows how many real images D puts on the right side of its zero, and the logits "
                f"of {type(self.algorithm).__name__} mean something only against each other; take {' '.join(POLICIES)}"
            )
        translates = isinstance(self.algorithm.networks, Translators)
        if translates and spec.target is None:
            raise UserError(
                f"--algorithm {type(self.algorithm).__name__.lower()}: translates between two sides, and the data have "
                "one; give --target, --made, or a folder with A and B"
            )
        if spec.target is not None and not translates:
            raise UserError(
                f"--algorithm {type(self.algorithm).__name__.lower()}: makes images of noise, and the data have two "
                "sides; give --algorithm pix2pix, cyclegan or cut"
            )
        if self.class_balance == "even" and not spec.classes:
            raise UserError("--class-balance even: these data have no classes; drop it, or sort them into folders")
        name = type(self.algorithm).__name__.lower()
        if self.algorithm.labels != "optional" and not self.conditional:
            raise UserError(f"--conditional False: {name} plays with the labels; drop it, or give another --algorithm")
        if self.labelled is not None and self.class_balance == "even":
            raise UserError("--class-balance even: takes all labels, and --labelled knows few of them; drop one")
        if self.labelled is not None and self.algorithm.labels != "critic":
            raise UserError(f"--labelled {self.labelled}: {name} needs every label; give --algorithm ssgan, or drop it")
        return replace(spec, classes=spec.classes if self.conditional else 0)

    @property
    def averages(self) -> bool:
        """Whether the generators that are drawn from are averages, and not the live ones."""
        return max(self.ema_half_life.start, self.ema_half_life.end) > 0

    def adam_of(self, player: str) -> Adam:
        """The optimiser of a player, allowing for the lazy penalties that D has."""
        if not player.startswith("D"):
            return self.adam_g
        usual, more = self.algorithm.rounds, self.algorithm.more_d_turns
        return self.adam_d.slowed(usual / (usual + more)) if more else self.adam_d


def check_length(images: int | None, minutes: float | None) -> None:
    """Raise UserError for a length that cannot be; None is no limit."""
    if images is not None and images < 1:
        raise UserError(f"--images {images}: must be 1 or more")
    if minutes is not None and not 0 < minutes < math.inf:
        raise UserError(f"--minutes {minutes}: must be above 0 and finite")


def check(run: Run) -> None:
    """Raise UserError for values that cannot be."""
    if run.images is None and run.minutes is None:
        raise UserError("--images and --minutes are both missing: give one, so that the run can end")
    for name in ("batch_size", "log_every", "grid_every", "checkpoint_every", "micro_batches", "augment_images"):
        if getattr(run, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(run, name)}: must be 1 or more")
    if run.until == "converged" and not run.probe_every:
        raise UserError("--until converged: needs probes; give --probe-every 1 or more")
    for name in ("probe_every", "regret_every"):
        if getattr(run, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} {getattr(run, name)}: must be 1 or more, or 0 for none")
    check_length(run.images, run.minutes)
    if run.threads is not None and run.threads < 1:
        raise UserError(f"--threads {run.threads}: must be 1 or more")
    if run.batch_size % run.micro_batches:
        raise UserError(f"--micro-batches {run.micro_batches}: must divide --batch-size {run.batch_size}")
    if run.algorithm.rounds < 1:
        raise UserError(f"--algorithm.critic-steps {run.algorithm.rounds}: must be 1 or more")
    for player, adam in (("g", run.adam_g), ("d", run.adam_d)):
        if min(adam.lr.start, adam.lr.end) < 0:
            raise UserError(f"--adam-{player}.lr {adam.lr}: must be 0 or more")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(adam, name) < 1:
                raise UserError(f"--adam-{player}.{name} {getattr(adam, name)}: must be at least 0 and below 1")
        if not adam.eps > 0:
            raise UserError(f"--adam-{player}.eps {adam.eps}: must be above 0")


# --- JSON ----------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> Any:
    """A frozen dataclass tree as plain JSON values. Algorithms and networks carry their class name as `kind`."""
    if isinstance(value, Schedule):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, KINDS):
            return {"kind": type(value).__name__, **fields}
        return fields
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a recipe cannot hold {value!r}: use numbers, text, schedules and frozen dataclasses")


def dumps(run: Run) -> str:
    return json.dumps(to_json(run), indent=1)


def from_json(value: dict[str, Any]) -> Run:
    """The inverse of `to_json`. UserError names a field or a kind that this version does not know."""
    return _read(Run, value, "recipe")


def translators_from_json(value: dict[str, Any]) -> Translators:
    """Translators alone, as `to_json` gives them. UserError as `from_json`."""
    return _read(Translators, value, "networks")


def _leaves(base: type) -> dict[str, type]:
    found: dict[str, type] = {}
    children: list[type] = base.__subclasses__()
    for child in children:
        if not isabstract(child):
            found[child.__name__] = child
        found |= _leaves(child)
    return found


def _read(kind: Any, value: Any, where: str) -> Any:
    if kind is Schedule:
        try:
            return Schedule.parse(str(value))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        return _read(next(o for o in options if o is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in options:
            raise UserError(f"{where}: {value!r} is not one of {', '.join(map(str, options))}")
        return value
    if origin is tuple:
        inner = options[:1] * len(_of(list, value, where)) if options[-1] is Ellipsis else options
        if len(_of(list, value, where)) != len(inner):
            raise UserError(f"{where}: {value!r} must hold {len(inner)} values")
        return tuple(_read(o, v, where) for o, v in zip(inner, value, strict=True))
    if isinstance(kind, type) and issubclass(kind, KINDS):
        if kind is Algorithm:  # importing the files defines the classes; a user's own are there already
            for name in algorithms.names():
                importlib.import_module(f"zerosum.algorithms.{name}")
        known = _leaves(kind) | ({} if isabstract(kind) else {kind.__name__: kind})
        name = _of(dict, value, where).get("kind")
        if name not in known:
            raise UserError(
                f"{where}: {name!r} is not known here; if it is your own class, import it first and "
                f"resume from Python with zerosum.resume(...). Known: {', '.join(sorted(known))}"
            )
        kind, value = known[name], {k: v for k, v in value.items() if k != "kind"}
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value, where)
    if kind is float:
        return float(_of((int, float), value, where))
    if kind in (int, str, bool):
        return _of(kind, value, where)
    raise TypeError(f"{where}: fields of type {kind} cannot be read from JSON")


def _read_fields(kind: Any, value: Any, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    strange = sorted(set(_of(dict, value, where)) - set(fields))
    if strange:
        raise UserError(f"{where}: field {strange[0]!r} is not known to this version of zerosum")
    for name, field in fields.items():
        if name not in value and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: field {name!r} is missing")
    return kind(**{name: _read(hints[name], v, f"{where}.{name}") for name, v in value.items()})


def _of(kind: Any, value: Any, where: str) -> Any:
    """The value if it is of that JSON type; a bool is no number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{where}: {json.dumps(value)} is not what belongs there")
    return value
