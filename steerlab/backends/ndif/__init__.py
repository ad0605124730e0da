"""The NDIF backend: the same rows on a server far away, hosted or one's own.

`backend` has the verbs. `distant` knows a model without its weights, and `packing` which rows share a pass and a job;
`jobs` turns those into payloads, of which `travelling` is the code; `texts` hears what they generate. `wire` carries
payloads, by `requests`, with the limits of `waiting`, and reads what comes with `messages`; `troubles` has the words
for what goes wrong. `left` has the jobs that outlive a kernel, and `kept` their files.
"""
