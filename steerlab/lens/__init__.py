"""Looking into the stream, layer by layer: the logit lens, each token's projections, and linear probes."""

from steerlab.lens.logits import Lens, LensDifference, Top, logit_lens
from steerlab.lens.probes import Probe, linear_probe, probe
from steerlab.lens.reading import Projections, projections

__all__ = [
    "Lens",
    "LensDifference",
    "Probe",
    "Projections",
    "Top",
    "linear_probe",
    "logit_lens",
    "probe",
    "projections",
]
