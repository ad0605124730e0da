"""The functions that a cell of nnsight defines where it needs them, as text."""

from __future__ import annotations

VECTOR = '''
def vector(text):
    """[d_model] numbers, from the base64 of little-endian float32."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy())
'''

BASIS = '''
def basis(*vectors):
    """[k d_model] an orthonormal basis of their span."""
    units = torch.stack([v / v.norm() for v in vectors]).double()
    _, values, rows = torch.linalg.svd(units, full_matrices=False)
    return rows[values > 1e-6 * values[0]].float()
'''

KEEP_NORM = '''
def keep_norm(y, x):
    """y with the norm that x has, token by token."""
    return y * (x.norm(dim=-1, keepdim=True) / y.norm(dim=-1, keepdim=True).clamp_min(1e-30))
'''

AROUND_MID = '''
def around_mid(a, start, edit, step):
    """What attention adds, a, so changed that the stream after it is edited; start is the stream before it."""
    stream = start + a
    return a + (edit(stream, step) - stream)
'''

NOISE = '''
class Noise(LogitsProcessor):
    """Samples by Gumbel noise from a seed, so that the baseline and the steered answer share theirs."""

    def __init__(self, seed, temperature):
        self.generator, self.temperature = torch.Generator().manual_seed(seed), temperature

    def __call__(self, ids, logits):
        uniform = torch.rand(logits.shape[-1], generator=self.generator, dtype=torch.float64)
        gumbel = -(-uniform.clamp_min(1e-300).log()).log()
        return (logits.cpu().double() / self.temperature + gumbel).to(logits.device)
'''

SAMPLE = '''
def sample(logits, generator):
    """Leaves one token possible, a sample: the baseline and the steered answer share the noise of a seed."""
    last = logits[:, -1]
    uniform = torch.rand(last.shape[-1], generator=generator, dtype=torch.float64)
    gumbel = -(-uniform.clamp_min(1e-300).log()).log()
    chosen = (last.cpu().double() / {temperature} + gumbel).argmax(-1, keepdim=True)
    logits[:, -1] = torch.full_like(last, -torch.inf).scatter(1, chosen.to(last.device), 0.0)
'''
