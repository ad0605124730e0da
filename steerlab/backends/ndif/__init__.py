"""The NDIF backend: the same rows on a server far away, hosted or one's own.

`backend` has the verbs; `jobs` turns batches into payloads, of which `travelling` is the code; `wire` carries them;
`distant` knows a model without its weights; `kept` has the jobs that outlive a kernel.
"""
