"""What every layer, unit and step of a network does: numbers, never pictures. Written on named layers, so any network and any input."""

from lamina.explain.attribution import Attribution, why
from lamina.explain.doctor import CHECKS, Diagnosis, Evidence, Examination, diagnose
from lamina.explain.filters import first_filters, seen_filters, selectivity
from lamina.explain.follow import Followed, follow
from lamina.explain.layers import (
    LayerFacts,
    Probe,
    look_at_layers,
    probe_layers,
    probe_letters,
    probe_people,
    receptive_fields,
    with_random_weights,
)
from lamina.explain.moment import Watcher
from lamina.explain.replay import Replay, replay
from lamina.explain.step import LayerStep, Mistake, OpenedStep, open_step, plan_of
from lamina.explain.unit import Unit, open_unit
from lamina.explain.units import TellingUnit, telling_units

__all__ = [
    "CHECKS", "Attribution", "Diagnosis", "Evidence", "Examination", "Followed", "LayerFacts", "LayerStep", "Mistake", "OpenedStep",
    "Probe", "Replay", "TellingUnit", "Unit", "Watcher", "diagnose", "first_filters", "follow", "look_at_layers", "open_step",
    "open_unit", "plan_of", "probe_layers", "probe_letters", "probe_people", "receptive_fields", "replay", "seen_filters",
    "selectivity", "telling_units", "why", "with_random_weights",
]  # fmt: skip
