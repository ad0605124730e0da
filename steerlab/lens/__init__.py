"""Looking into the stream, layer by layer: the logit lens, what is behind each token, and linear probes."""

from steerlab.lens.logits import Lens, LensDifference, Overview, Top, lens_difference, logit_lens
from steerlab.lens.probes import Probe, linear_probe, probe
from steerlab.lens.reading import Projections, projections
from steerlab.lens.tokens import TokenDetails, TokenSide, token_details

__all__ = [
    "Lens",
    "LensDifference",
    "Overview",
    "Probe",
    "Projections",
    "TokenDetails",
    "TokenSide",
    "Top",
    "lens_difference",
    "linear_probe",
    "logit_lens",
    "probe",
    "projections",
    "token_details",
]
