"""Estimators: from contrasting prompts, tokens or relations to directions."""

from steerlab.estimators.components import principal_component
from steerlab.estimators.means import caa, difference_in_means, prompt_pair
from steerlab.estimators.probes import logistic_probe
from steerlab.estimators.relations import LinearRelation, linear_relation
from steerlab.estimators.vectors import mean_projection, random_like, randomised, token_row
from steerlab.maps import DirectionMap

__all__ = [
    "DirectionMap",
    "LinearRelation",
    "caa",
    "difference_in_means",
    "linear_relation",
    "logistic_probe",
    "mean_projection",
    "principal_component",
    "prompt_pair",
    "random_like",
    "randomised",
    "token_row",
]
