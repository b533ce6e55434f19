"""Whether a target is well and whether an alarm stands in a deployment's way: documents, probes and judgements."""
