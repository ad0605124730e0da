"""Looking into the stream, layer by layer: the logit lens, what is behind each token, and linear probes."""

from steerlab.directions import cosines
from steerlab.lens.directions import Expression, NearestTokens, expression, nearest_tokens
from steerlab.lens.logits import Lens, LensDifference, Overview, Top, lens_difference, logit_lens
from steerlab.lens.probes import Probe, linear_probe, probe
from steerlab.lens.reading import Projections, projections
from steerlab.lens.tokens import TokenDetails, TokenSide, token_details

__all__ = [
    "Expression",
    "Lens",
    "LensDifference",
    "NearestTokens",
    "Overview",
    "Probe",
    "Projections",
    "TokenDetails",
    "TokenSide",
    "Top",
    "cosines",
    "expression",
    "lens_difference",
    "linear_probe",
    "logit_lens",
    "nearest_tokens",
    "probe",
    "projections",
    "token_details",
]
