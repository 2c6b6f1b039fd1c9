"""Images of a timeline and a question as the prompt of a causal language model, which writes the answer."""
