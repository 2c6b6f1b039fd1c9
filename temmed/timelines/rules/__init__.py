"""The audit's rules: every module here is found by :func:`temmed.timelines.audit.audit`."""
